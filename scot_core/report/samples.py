"""Triplets beside their images, and what became of every reply."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any

from PIL import Image

from scot_core.lake import Dataset
from scot_core.report.choice import place
from scot_core.report.images import images_of
from scot_core.report.lineage import Lineage
from scot_core.sources import RIGHT, judge_of

RAW_SHOWN = 110  # characters of a rejected reply
COLUMNS = ["pair_id", "image_id", "caption", "modification", "modified_caption"]


@dataclass(frozen=True, slots=True)
class Piece:
    """Some words of a text, and whether they changed."""

    text: str
    changed: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """A triplet with its image; the verdict is the grammar's, None where no grammar can judge."""

    image: Image.Image
    caption: list[Piece]
    modification: str
    modified_caption: list[Piece]
    verdict: str | None


@dataclass(frozen=True, slots=True)
class RejectCount:
    """Why replies made no triplet, how many, and one of them."""

    name: str
    count: int
    raw: str


@dataclass(frozen=True)
class Writing:
    """How one stage turned captions into triplets. `seconds` is the work of asking, where it ran in one go."""

    stage: str
    model: str
    captions: int
    replies: int
    kept: int
    prompt_tokens: int
    completion_tokens: int
    usd: float
    seconds: float
    reasons: tuple[RejectCount, ...]
    verdicts: Mapping[str, int]
    """Grammar's verdict on every kept triplet; empty where no grammar can judge."""

    @property
    def tried_again(self) -> bool:
        return self.replies > self.captions

    @property
    def kept_share(self) -> float:
        return 100 * self.kept / max(self.captions, 1)

    @property
    def right_share(self) -> float | None:
        return 100 * self.verdicts.get(RIGHT, 0) / max(self.kept, 1) if self.verdicts else None

    @property
    def per_minute(self) -> float | None:
        return 60 * self.kept / self.seconds if self.seconds > 0 else None


def writing(lineage: Lineage, triplets: Dataset) -> Writing | None:
    """What a dataset of triplets came from; None where no replies are behind it in the lake."""
    attempts = [d for d in lineage.inputs(triplets) if d.table == "replies"]
    if not attempts:
        return None
    usage = [d.usage for d in attempts]
    rejects = lineage.find("rejects", key=triplets.key)
    verdict_on = _verdicts(triplets)
    return Writing(
        stage=triplets.stage,
        model=str(attempts[0].read_part(0, ["model"])["model"][0]),
        captions=attempts[0].rows,
        replies=sum(d.rows for d in attempts),
        kept=triplets.rows,
        prompt_tokens=sum(u.prompt_tokens for u in usage),
        completion_tokens=sum(u.completion_tokens for u in usage),
        usd=sum(u.usd for u in usage),
        seconds=sum(u.seconds for u in usage),
        reasons=reasons(rejects.each(["reason", "raw"])) if rejects is not None else (),
        verdicts=Counter(verdict for row in triplets.each(COLUMNS) if (verdict := verdict_on(row)) is not None),
    )


def reasons(rejects: Iterable[Mapping[str, Any]]) -> tuple[RejectCount, ...]:
    """Rejects by reason, the most frequent first, each with its first raw text, cut short."""
    raw, counts = dict[str, str](), Counter[str]()
    for row in rejects:
        raw.setdefault(row["reason"], row["raw"])
        counts[row["reason"]] += 1
    return tuple(RejectCount(name, count, _short(raw[name])) for name, count in counts.most_common())


def samples(lineage: Lineage, triplets: Dataset, count: int) -> list[Sample]:
    """Triplets in the order of a digest of their pair ids; none where their images are no longer in the lake."""
    captions = lineage.find("captions", source=triplets.source)
    if captions is None:
        return []
    rows = nsmallest(count, triplets.each(COLUMNS), lambda row: place(str(row["pair_id"])))
    image, verdict_on = images_of(captions, {row["image_id"] for row in rows}), _verdicts(triplets)
    found = []
    for row in rows:
        before, after = compare(row["caption"], row["modified_caption"])
        found.append(Sample(image[row["image_id"]], before, row["modification"], after, verdict_on(row)))
    return found


def compare(before: str, after: str) -> tuple[list[Piece], list[Piece]]:
    """Two texts in pieces: the words that only one of them has are marked in that one."""
    words = before.split(), after.split()
    pieces: tuple[list[Piece], list[Piece]] = ([], [])
    for tag, *ends in difflib.SequenceMatcher(None, *words, autojunk=False).get_opcodes():
        for side, (start, end) in enumerate((ends[:2], ends[2:])):
            if start < end:
                pieces[side].append(Piece(" ".join(words[side][start:end]), tag != "equal"))
    return pieces


def _verdicts(triplets: Dataset) -> Callable[[Mapping[str, Any]], str | None]:
    """What a judge of the triplets' source says of a row; None where there is no judge."""
    judge = judge_of(triplets.source)
    return lambda row: judge and judge(row["caption"], row["modification"], row["modified_caption"])


def _short(text: str) -> str:
    flat = " ⏎ ".join(line.strip() for line in text.splitlines() if line.strip())
    return flat if len(flat) <= RAW_SHOWN else f"{flat[: RAW_SHOWN - 1]}…"
