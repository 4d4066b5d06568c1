"""A benchmark of any captioned images: two of them whose captions differ by one edit are reference and target.

Captions are held out by a digest of their words; nothing of them may be seen by who is measured. The edits are those
of `scot_core.triplets.mining`, with a real image on both sides. Protocol: targets are all images with the caption
that the edit leads to; the gallery is every image, without the reference; R@1/5/10 ask for any target. Splits: edits
that the captions left for training show somewhere (`edit-seen`) or nowhere (`edit-unseen`), what an edit does,
and, where there are a few, the folder of the reference.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from scot_core.benchmarks.base import Benchmark, Indices, Query
from scot_core.benchmarks.recalls import recalls
from scot_core.errors import ConfigError, DataError
from scot_core.metrics import Floats
from scot_core.triplets.mining import MinedEdit, mine
from scot_core.triplets.neighbours import SPAN
from scot_core.triplets.spans import Caption, key
from scot_core.triplets.wording import Span, wordings

NAME: Final = "mined"
VERSION: Final = 3  # splits by folder
SEEN, UNSEEN = "edit-seen", "edit-unseen"
STRICT, MIXED = "reference-held-out", "reference-seen"
SPLITS: Final = (SEEN, UNSEEN, "replace", "add", "remove", STRICT, MIXED)
_FOLDERS: Final = 8  # at most that have splits of their own
_PER_CAPTION: Final = 4
_SPARE: Final = 3  # candidates drawn for each query that is wanted

Captions = Collection[tuple[str, str]]  # (image id, caption), gone through more than once
Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Images that are measured with, and digests of their captions' words."""

    images: frozenset[str]
    captions: frozenset[int]

    def holds(self, caption: str) -> bool:
        """Whether a caption has the words of one that is held out."""
        return _digest(key(caption)) in self.captions

    def trains(self, image: str, caption: str) -> bool:
        """Whether one may learn from a captioned image."""
        return image not in self.images and not self.holds(caption)


def hold_out(captions: Captions, share: float, seed: int) -> HeldOut:
    """Hold out about a share of the captions, by their words alone: near-duplicates are on one side.

    An image of several captions goes by one of them, and all of its captions with it. Takes some 200 bytes of memory
    an image. Raises ConfigError for a share that is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ConfigError(f"the share of captions that are held out must be between 0 and 1, not {share}")
    leading: dict[str, tuple[int, int]] = {}
    for image, caption in captions:
        words = key(caption)
        draw = _digest(f"{seed}/leads/{words}"), _digest(f"{seed}/held/{words}")
        leading[image] = min(draw, leading.get(image, draw))
    images = frozenset(image for image, (_, draw) in leading.items() if draw < share * 2**64)
    return HeldOut(images, frozenset(_digest(key(caption)) for image, caption in captions if image in images))


class Mined(Benchmark):
    name = NAME

    @property
    def splits(self) -> dict[str, Indices]:
        chosen = {split: np.flatnonzero([split in query.groups for query in self.queries]) for split in SPLITS}
        present = {split: indices for split, indices in chosen.items() if len(indices)}
        if MIXED not in present:
            present.pop(STRICT, None)
        folder = np.array([query.reference.rpartition("/")[0].partition("/")[0] for query in self.queries])
        if 1 < len(names := np.unique(folder)) <= _FOLDERS:
            present |= {f"folder: {name or '.'}": np.flatnonzero(folder == name) for name in names.tolist()}
        return present | {"all": np.arange(len(self.queries))}

    def _measure(self, queries: Any, gallery: Any) -> dict[str, Floats]:
        return recalls(self, queries, gallery)


@dataclass(frozen=True, slots=True)
class MinedQueries:
    """The benchmark, and how many candidates were dropped by reason.

    `ambiguous`: the same text leads from the reference's caption to another caption that is there; `answered`: the
    reference has the caption that is asked for; `repeated`: a query of the same image and text is there.
    """

    benchmark: Mined
    dropped: Mapping[str, int]


def build(captions: Captions, held: HeldOut, *, limit: int, seed: int, work: Path) -> MinedQueries:
    """At most `limit` queries, drawn by a digest of reference and text.

    References are held-out images; only where these give too few queries, images one may learn from are references
    as well, and splits of their own. Takes some 300 bytes of memory a caption. Raises DataError without any query.

    Args:
        captions: of every image.
        held: of `hold_out` over the same captions.
        limit: queries at most.
        seed: of all draws.
        work: a folder for temporary files.
    """
    there = _There.of(captions, held)
    dropped: Counter[str] = Counter()
    chosen: dict[str, tuple[MinedEdit, str]] = {}
    for group in (STRICT, MIXED):
        if len(chosen) < limit:
            rows = (row for row in captions if group == MIXED or row[0] in held.images)
            found = mine(rows, per_caption=_PER_CAPTION, seed=seed, work=work, allowed=held.holds, invent=False)
            edits = (e for e in found if isinstance(e, MinedEdit) and (e.pair_id in held.images) == (group == STRICT))
            for edit in heapq.nsmallest(_SPARE * limit, edits, key=partial(_name, seed)):
                fault = "repeated" if _name(seed, edit) in chosen else there.fault(edit)
                if fault is not None:
                    dropped[fault] += 1
                elif len(chosen) < limit:
                    chosen[_name(seed, edit)] = edit, group
    if not chosen:
        raise DataError(
            f"no two of {len(held.images)} held-out images have captions that differ by one edit: hold out a larger "
            f"share, or bring queries of your own (dropped: {dict(dropped)})"
        )
    seen = _seen(captions, held, [edit for edit, _ in chosen.values()])
    queries = [there.query(name, edit, group, _edit(edit) in seen) for name, (edit, group) in chosen.items()]
    return MinedQueries(Mined("held-out", queries, sorted({image for image, _ in captions})), dict(dropped))


def _name(seed: int, edit: MinedEdit) -> str:
    """Id of a query, and its place in the draw."""
    text = "\n".join((str(seed), edit.pair_id, edit.modification))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class _There:
    """The digests of all captions' words, and the images of those that are held out."""

    captions: frozenset[int]
    images: Mapping[int, Sequence[str]]

    @classmethod
    def of(cls, captions: Captions, held: HeldOut) -> _There:
        images: defaultdict[int, set[str]] = defaultdict(set)
        for image, caption in captions:
            if image in held.images:
                images[_digest(key(caption))].add(image)
        every = frozenset(_digest(key(caption)) for _, caption in captions)
        return cls(every, {words: sorted(found) for words, found in images.items()})

    def fault(self, edit: MinedEdit) -> str | None:
        """Why an edit makes no query."""
        if edit.pair_id in self.images[_digest(key(edit.modified_caption))]:
            return "answered"
        return "ambiguous" if self._is_ambiguous(edit) else None

    def _is_ambiguous(self, edit: MinedEdit) -> bool:
        """Whether the text, read as another edit of the caption, leads to another caption that is there."""
        caption, target = Caption.of(edit.caption), Caption.of(edit.modified_caption).words
        new = Caption.of(edit.new).words
        for start in range(len(caption.words) + 1):
            for end in range(start, min(start + SPAN, len(caption.words)) + 1):
                outcome = caption.words[:start] + new + caption.words[end:]
                if outcome in (target, caption.words) or _digest(" ".join(outcome)) not in self.captions:
                    continue
                old, after = caption.surface(start, end), Caption.of(" ".join(outcome))
                for named in (False, True):
                    ways = wordings(Span(old, named), Span(edit.new, after.is_named(start, start + len(new))))
                    ways += wordings(Span(old, named), Span(edit.new, named))
                    if edit.modification in ways:
                        return True
        return False

    def query(self, name: str, edit: MinedEdit, group: str, seen: bool) -> Query:
        targets = tuple(self.images[_digest(key(edit.modified_caption))])
        groups = (SEEN if seen else UNSEEN, edit.kind, group)
        return Query(name, edit.pair_id, edit.modification, (edit.modification,), targets, groups=groups)


def _edit(edit: MinedEdit) -> tuple[Words, Words]:
    return Caption.of(edit.old).words, Caption.of(edit.new).words


def _seen(captions: Captions, held: HeldOut, edits: Iterable[MinedEdit]) -> set[tuple[Words, Words]]:
    """The edits by which two captions for training differ: one has the words that go, the other those that come."""
    wanted: defaultdict[Words, set[tuple[Words, Words]]] = defaultdict(set)
    for edit in edits:
        old, new = _edit(edit)
        wanted[old or new].add((old, new))  # words that come to a caption are looked for where they are
    digests = {_digest(key(caption)) for image, caption in captions if held.trains(image, caption)}
    seen: set[tuple[Words, Words]] = set()
    for words in (Caption.of(caption).words for image, caption in captions if held.trains(image, caption)):
        for start in range(len(words)):
            for end in range(start + 1, min(start + SPAN, len(words)) + 1):
                for old, new in wanted.get(words[start:end], set()) - seen:
                    other = words[:start] + (new if old else ()) + words[end:]
                    if _digest(" ".join(other)) in digests:
                        seen.add((old, new))
    return seen


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
