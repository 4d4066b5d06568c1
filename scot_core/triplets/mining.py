"""A teacher for any captions: edits mined from the captions themselves, without a grammar and without a model.

Captions that differ in one span ("man judge", "woman judge") give an edit whose outcome is a real caption, its
witness. Where a caption has too few of them, words that stand in the same places elsewhere are put in place of one
another (`scot_core.triplets.slots`). Edits are asked for in several ways and pass the screens of every reply.

Captions of any number are worked through on the disk in some hundred megabytes of memory. What is yielded depends on
the captions and the seed, and not on the order in which they come.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from scot_core.spill import BATCH, database
from scot_core.triplets.neighbours import LONGEST, Contexts
from scot_core.triplets.pile import Pile, Row, Shelf
from scot_core.triplets.reading import Parsed, Rejection, normalise, screen
from scot_core.triplets.slots import Slots, Substitutes
from scot_core.triplets.spans import Caption, exchange, is_content, substitute
from scot_core.triplets.wording import Kind, Span, kind_of, wordings

MODEL: Final = "mined-1"  # column `model`: another number where the same captions give other edits
_TRIES: Final = 4  # candidates looked at for each edit that is wanted


@dataclass(frozen=True, slots=True)
class MinedEdit:
    """A triplet of a caption. `old` are the words that go, `new` those that come, without the article before them."""

    pair_id: str
    caption: str
    modification: str
    modified_caption: str
    kind: Kind
    old: str
    new: str
    witness: str | None
    """A pair whose caption has the words of the modified caption; None where words were put in place of others."""


@dataclass(frozen=True, slots=True)
class Unmined:
    """What made no edit, and why: a stable word of snake case.

    A pair: `too_few_words` (under 2), `too_many_words` (over 64), `duplicate_pair` (again the same id), `no_edit`
    (nothing differs from it in one span, and no word of it has a substitute).

    A candidate, with modification and modified caption as the two lines of `raw`: `held_out`; `fragment` (words that
    end in an article or the like); `two_edits` (in neighbouring words); `side_by_side` (words of which neither takes
    the other's place); `repeated` (an edit that the pair has already); and the reasons of `reading.screen`.
    """

    pair_id: str
    caption: str
    reason: str
    raw: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """An edit before it is put into words: `words[start:end]` of the caption become `new`."""

    start: int
    end: int
    new: str
    modified: str
    witness: str | None


def mine(
    captions: Iterable[Row],
    *,
    per_caption: int,
    seed: int,
    work: Path,
    allowed: Callable[[str], bool] = lambda caption: True,
    invent: bool = True,
) -> Iterator[MinedEdit | Unmined]:
    """Up to `per_caption` edits of every captioned image, by words; several images may have one caption.

    Every pair is yielded at least once: with its edits, or as `Unmined`. No two edits of a pair ask for the same, and
    none leads to the same caption as another.

    Args:
        captions: (pair id, caption), read once.
        per_caption: edits of one pair at most.
        seed: of all choices; those of a pair follow from it and the pair's id.
        work: a folder for temporary files, about 0.7 kB a caption of ten words.
        allowed: False for captions that no edit may lead to, such as those that were held out.
        invent: whether words are put in place of others where a pair has too few edits with a witness.

    Raises DataError where the disk is full.
    """
    with tempfile.TemporaryDirectory(dir=work, prefix="mining-") as name:
        folder = Path(name)
        with database(folder, "captions cannot be sorted") as connection, Shelf(folder) as shelf:
            pile = Pile.of(captions, seed, folder, connection)
            contexts, slots = Contexts(folder), Slots(folder)
            firsts = (group[0] for group in pile.groups())
            usable = ((row, caption) for row in firsts if _length_fault(caption := Caption.of(row[1])) is None)
            while batch := list(islice(usable, BATCH)):
                shelf.add(row for row, _ in batch)
                contexts.add([caption for _, caption in batch])
                slots.add([caption for _, caption in batch])
            miner = _Miner(shelf, slots.substitutes(connection), per_caption, seed, allowed, invent)
            near = _by_caption(contexts)
            for group in pile.groups():
                fault = _length_fault(Caption.of(group[0][1]))
                leads = next(near) if fault is None else []
                last = None
                for pair, text in group:
                    reason = "duplicate_pair" if pair == last else fault
                    yield from [Unmined(pair, text, reason, "")] if reason else miner.of(pair, text, leads)
                    last = pair


Lead = tuple[int, int, int, int]  # the number of another caption, the span, its end there


def _by_caption(contexts: Contexts) -> Iterator[list[Lead]]:
    for numbers, rows in contexts.pairs():
        ends = rows["caption"].searchsorted([number + 1 for number in numbers]).tolist()
        leads = rows[["other", "start", "end", "other_end"]].tolist()
        for begin, end in zip([0, *ends], ends, strict=False):
            yield leads[begin:end]


def _length_fault(caption: Caption) -> str | None:
    length = len(caption.words)
    return "too_few_words" if length < 2 else "too_many_words" if length > LONGEST else None


@dataclass(frozen=True, slots=True)
class _Miner:
    shelf: Shelf
    substitutes: Substitutes
    per_caption: int
    seed: int
    allowed: Callable[[str], bool]
    invent: bool

    def of(self, pair: str, text: str, leads: list[Lead]) -> Iterator[MinedEdit | Unmined]:
        """The edits of one pair and what was refused, or `no_edit`."""
        caption = Caption.of(text)
        rng = random.Random(hashlib.blake2b(f"{self.seed}/{pair}".encode(), digest_size=8).digest())
        asked: set[str] = set()
        reached: set[tuple[str, ...]] = set()
        kept = tried = 0
        for candidate in islice(self._candidates(caption, leads, rng), _TRIES * self.per_caption):
            tried += 1
            outcome = self._edit(pair, caption, candidate, rng, asked, reached)
            if isinstance(outcome, MinedEdit):
                kept += 1
                asked.add(normalise(outcome.modification))
                reached.add(Caption.of(outcome.modified_caption).words)
            yield outcome
            if kept == self.per_caption:
                return
        if not tried:
            yield Unmined(pair, text, "no_edit", "")

    def _candidates(self, caption: Caption, leads: list[Lead], rng: random.Random) -> Iterator[Candidate]:
        """Those with a witness first, smaller edits rather before larger ones; then substitutes."""
        weights = [
            (rng.random() * (end - start + other_end - start), i) for i, (_, start, end, other_end) in enumerate(leads)
        ]
        for _, i in sorted(weights):
            number, start, end, other_end = leads[i]
            witness, text = self.shelf[number]
            other = Caption.of(text)
            if not set(caption.words[start:end]) & set(other.words[start:other_end]):  # else it is two edits
                modified = exchange(caption, start, end, other, other_end)
                yield Candidate(start, end, other.surface(start, other_end), modified, witness)
        for at, word in self.substitutes.of(caption, rng) if self.invent else ():
            yield Candidate(at, at + 1, word, substitute(caption, at, word), None)

    def _edit(
        self,
        pair: str,
        caption: Caption,
        candidate: Candidate,
        rng: random.Random,
        asked: set[str],
        reached: set[tuple[str, ...]],
    ) -> MinedEdit | Unmined:
        old, modified = caption.surface(candidate.start, candidate.end), Caption.of(candidate.modified)
        if not self.allowed(modified.text):
            return Unmined(pair, caption.text, "held_out", "\n" + modified.text)
        if modified.words in reached:
            return Unmined(pair, caption.text, "repeated", "\n" + modified.text)
        words = caption.words[candidate.start : candidate.end]
        comes = modified.words[candidate.start : len(modified.words) - len(caption.words) + candidate.end]
        if len(words) == len(comes) == 1 and self.substitutes.side_by_side(words[0], comes[0]):
            return Unmined(pair, caption.text, "side_by_side", "\n" + modified.text)
        if any(span and not is_content(span[-1]) for span in (words, comes)):
            return Unmined(pair, caption.text, "fragment", "\n" + modified.text)
        if self.substitutes.are_two_edits(words, comes):
            return Unmined(pair, caption.text, "two_edits", "\n" + modified.text)
        goes = Span(old, caption.is_named(candidate.start, candidate.end))
        ways = wordings(goes, Span(candidate.new, modified.is_named(candidate.start, candidate.start + len(comes))))
        rng.shuffle(ways)
        refusal: str | None = None
        for way in ways:
            parsed = Parsed(way, modified.text)
            rejection = Rejection("repeated") if normalise(way) in asked else screen(caption.text, parsed, "stop")
            if rejection is None:
                kind = kind_of(old, candidate.new)
                return MinedEdit(pair, caption.text, way, modified.text, kind, old, candidate.new, candidate.witness)
            refusal = refusal or rejection.reason
        return Unmined(pair, caption.text, str(refusal), f"{ways[0]}\n{modified.text}")
