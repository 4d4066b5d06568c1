"""Words that stand in the same places: what may be put in place of a word where no caption shows it.

A slot is a word of content with the word before it and the one after it. Words that fill several slots of the same
neighbours may stand for each other, unless they stand next to each other somewhere: "red" and "large" both come
before "mug", but there are large red mugs, so that neither takes the other's place.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scot_core.triplets.seen import Seen, Times, hashes
from scot_core.triplets.spans import Caption, is_content

if TYPE_CHECKING:  # is slow to load
    import duckdb

SHARED: Final = 3  # slots that two words have in common, as far as they were compared
SIDES: Final = 2  # different words before, and after, in those slots: "no sleeves" and "no badge" are not enough
ALTERNATIVES: Final = 32  # of a word
CHOICES: Final = 8  # of them that are put in its place
MOST_WORDS: Final = 100_000  # that others may stand for, the most supported
_LED: Final = 4  # words of a slot that a word is compared with
TELLING: Final = 10  # captions of a word, after which it says something that another was never in one of them
EDGE: Final = ""  # before the first and behind the last word of a phrase

SCHEMA: Final = pa.schema([(name, pa.string()) for name in ("before", "word", "after", "surface")])

# In a slot of many words, each is compared with the next few in an order that is the slot's own.
ALIKE: Final = f"""
    WITH filled AS (
        SELECT DISTINCT before, after, word FROM slots WHERE before <> '' OR after <> ''
    ), led AS (
        SELECT before, after, word, {", ".join(f"lead(word, {n}) OVER slot AS other_{n}" for n in range(1, _LED + 1))}
        FROM filled WINDOW slot AS (PARTITION BY before, after ORDER BY md5(before || ' ' || word || ' ' || after))
    ), compared AS (
        SELECT before, after, word, unnest([{", ".join(f"other_{n}" for n in range(1, _LED + 1))}]) AS other FROM led
    ), shared_by AS (
        SELECT least(word, other) AS a, greatest(word, other) AS b, count(*) AS shared
        FROM compared WHERE other IS NOT NULL GROUP BY a, b
        HAVING count(*) >= {SHARED} AND count(DISTINCT before) >= {SIDES} AND count(DISTINCT after) >= {SIDES}
    ), adjacent AS (
        SELECT before, word FROM slots WHERE before <> '' GROUP BY ALL
    ), kept AS (
        SELECT a, b, shared FROM shared_by
        WHERE NOT EXISTS (FROM adjacent x WHERE x.before = a AND x.word = b)
            AND NOT EXISTS (FROM adjacent x WHERE x.before = b AND x.word = a)
    ), ways AS (
        SELECT a AS word, b AS other, shared FROM kept UNION ALL SELECT b, a, shared FROM kept
    ), written AS (
        SELECT word, arg_max(surface, (times, surface)) AS surface
        FROM (SELECT word, surface, count(*) AS times FROM slots GROUP BY ALL) GROUP BY word
    ), best AS (
        SELECT word, other, shared, row_number() OVER (PARTITION BY word ORDER BY shared DESC, other) AS place FROM ways
    ), words AS (
        SELECT word FROM best GROUP BY word ORDER BY sum(shared) DESC, word LIMIT {MOST_WORDS}
    )
    SELECT b.word, w.surface FROM best b JOIN words USING (word) JOIN written w ON w.word = b.other
    WHERE place <= {ALTERNATIVES} ORDER BY b.word, place
"""


@dataclass(frozen=True, slots=True)
class Substitutes:
    """Alternatives of a word, the best first, as they are written; and which words were seen side by side, or together
    in a caption in the order of the alphabet."""

    words: dict[str, list[str]]
    adjacent: Seen
    together: Seen
    times: Times

    def side_by_side(self, one: str, other: str) -> bool:
        """Whether two words stood next to each other."""
        return (one, other) in self.adjacent or (other, one) in self.adjacent

    def are_two_edits(self, gone: Sequence[str], come: Sequence[str]) -> bool:
        """Whether a word that goes is an alternative of one that comes, and others go or come beside them.

        "red mug" for "blue cup" are two edits, "tote bag" for "lamp" is one: nothing is a tote lamp.
        """
        for one, other in product(gone, come):
            if other in self._alternatives(one) or one in self._alternatives(other):
                if len(gone) > 1 and len(come) > 1:
                    return True
                come_with_old = pairwise([one if word == other else word for word in come])
                gone_with_new = pairwise([other if word == one else word for word in gone])
                if any(pair in self.adjacent for pair in chain(come_with_old, gone_with_new)):
                    return True
        return False

    def of(self, caption: Caption, rng: random.Random) -> Iterator[tuple[int, str]]:
        """(place, word) of what may stand in place of a word, beside its neighbours and among the caption's words."""
        slots = neighbours(caption)
        others = [(at, other) for at, slot in enumerate(slots) for other in self.words.get(slot[1], ())[:CHOICES]]
        rng.shuffle(others)
        for at, other in others:
            before, word, after = slots[at]
            lower = other.lower()
            if (before, lower) in self.adjacent and (lower, after) in self.adjacent:
                rest = (
                    w for w in caption.words if w not in (word, lower) and is_content(w) and self.times[w] >= TELLING
                )
                if all((min(w, lower), max(w, lower)) in self.together for w in rest):
                    yield at, other

    def _alternatives(self, word: str) -> Iterator[str]:
        return (other.lower() for other in self.words.get(word, ()))


def neighbours(caption: Caption) -> list[tuple[str, str, str]]:
    """Each word with the ones before and after it, `EDGE` where punctuation or nothing is between them."""
    words, joins = caption.words, (False, *caption.joins, False)
    return [
        (words[at - 1] if joins[at] else EDGE, word, words[at + 1] if joins[at + 1] else EDGE)
        for at, word in enumerate(words)
    ]


class Slots:
    """Collects the slots of captions in a file, and says in the end which words stand for which."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "slots.parquet"
        self._writer = pq.ParquetWriter(self._path, SCHEMA, compression="zstd")
        self._adjacent, self._together, self._times = Seen(), Seen(), Times()

    def add(self, captions: Sequence[Caption]) -> None:
        """The slots of some captions."""
        slots = [slot for caption in captions for slot in neighbours(caption)]
        befores, words, afters = (hashes(column) for column in zip(*slots, strict=True))
        self._adjacent.add(befores, words)
        self._adjacent.add(words, afters)
        for caption in captions:
            spoken = sorted({word for word in caption.words if is_content(word)})
            left, right = np.triu_indices(len(spoken), 1)
            found = hashes(spoken)
            self._together.add(found[left], found[right])
            self._times.add(found)
        surfaces = (caption.text[begin:end] for caption in captions for begin, end in caption.places)
        rows = [(*slot, surface) for slot, surface in zip(slots, surfaces, strict=True) if is_content(slot[1])]
        arrays = [pa.array([row[i] for row in rows], pa.string()) for i in range(len(SCHEMA))]
        self._writer.write_batch(pa.record_batch(arrays, schema=SCHEMA))

    def substitutes(self, connection: duckdb.DuckDBPyConnection) -> Substitutes:
        """What the captions say; nothing may be added afterwards."""
        self._writer.close()
        connection.read_parquet(str(self._path)).create_view("slots", replace=True)
        found: dict[str, list[str]] = {}
        for batch in connection.sql(ALIKE).to_arrow_reader(10_000):
            for word, other in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                found.setdefault(word, []).append(other)
        self._path.unlink()
        return Substitutes(found, self._adjacent, self._together, self._times)
