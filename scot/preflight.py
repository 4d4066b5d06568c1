"""Before any work on captions of one's own: whether encoder and teacher fit them, in seconds, on a sample."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from PIL import Image

from scot_core.captions.entries import Entry
from scot_core.captions.images import Bad, load
from scot_core.captions.reader import Reader
from scot_core.captions.sources import readers_of
from scot_core.catalogue import grammar
from scot_core.config import CaptionsConfig, EmbedConfig, Pipeline
from scot_core.encoders.rows import ROWS
from scot_core.encoders.weights import hub_is_reached
from scot_core.errors import DataError, ModelError
from scot_core.lake import Lake
from scot_core.llm import Reply
from scot_core.stages.finetune import quality
from scot_core.triplets import local_completion

READ, PROBED, ASKED = 20_000, 256, 50  # entries looked at; pictures the encoder is tried on; captions the teacher is
FEWEST = 10  # pictures that a recall can be told from
TIMES_CHANCE = 3.0  # an encoder that finds less than this often is none for these captions


@dataclass(frozen=True, slots=True)
class Sample:
    """The first entries of a source in the order of a digest, one for each different caption."""

    reader: Reader
    pairs: int
    whole: bool
    entries: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class Probe:
    """Shares of captions whose picture is first, and among the first `k`, of `pictures`."""

    pictures: int
    k: int
    first: float
    among_k: float

    @property
    def is_chance(self) -> bool:
        return self.pictures >= FEWEST and self.among_k < min(TIMES_CHANCE * self.k / self.pictures, 0.9)

    def __str__(self) -> str:
        chance = 100 / self.pictures
        return (
            f"finds the picture of a caption among {self.pictures} for {100 * self.first:.1f} % (chance {chance:.1f}), "
            f"among the first {self.k} for {100 * self.among_k:.1f} % (chance {self.k * chance:.1f})"
        )


def sample(config: CaptionsConfig) -> Sample:
    """Raises DataError where the captions are not to be had, or none of them is one."""
    reader = readers_of(config)[0]
    entries = [entry for entry in islice(reader.entries(), READ) if isinstance(entry, Entry)]
    if not entries:
        raise DataError(f"no entry of {reader.place.root} names an image and a caption; look at {reader.place.setting}")
    different = {" ".join(entry.caption.casefold().split()): entry for entry in entries}
    drawn = sorted(different.values(), key=lambda e: hashlib.blake2b(f"{e.image_id}\n{e.caption}".encode()).digest())
    pairs = min(len(entries), reader.count or len(entries))
    return Sample(reader, pairs, len(entries) < READ, drawn)


def counts(pipeline: Pipeline, found: Sample) -> list[str]:
    """Settings that take the place of counts larger than the data."""
    if pipeline.generate.is_mined or not found.whole or pipeline.seed.count < found.pairs:
        return []
    return [f"seed.count={max(1, found.pairs - max(1, found.pairs // 5))}"]  # tuning is measured on the rest


def teacher_fault(pipeline: Pipeline, found: Sample) -> str | None:
    """Why the catalogue's teacher cannot write for these captions; None where another one is asked."""
    if pipeline.generate.is_mined or pipeline.seed.endpoint.base_url:
        return None
    captions = [entry.caption for entry in found.entries[:ASKED]]
    replies = [Reply(_taught(caption), "stop", 0, 0) for caption in captions]
    kept = quality(captions, replies, None).kept / 100
    if kept and kept >= pipeline.seed.min_kept:
        return None
    return (
        f"the catalogue's teacher knows the catalogue's captions only, and {kept:.0%} of {len(captions)} of these make "
        f"a triplet (for example {captions[0]!r}): mine them from the captions (--set generate.writer=mined), or name "
        "a server (--set seed.endpoint.base_url=… --set seed.endpoint.model=…) and a model to tune (--llm smollm2)"
    )


def _taught(caption: str) -> str:
    try:
        modification, modified = grammar.teach(caption, random.Random(0))
    except DataError:
        return ""
    return local_completion(modification, modified)


def probe(embed: EmbedConfig, found: Sample, lake: Lake | None = None) -> Probe | None:
    """How well an encoder finds pictures by their captions; None where there is no picture to try it on.

    Raises ModelError where its weights are not here and cannot be had.
    """
    from scot_core import encoders
    from scot_core.retrieval import ranks

    require_weights(embed)
    pictures, captions = [], []
    drawn = found.entries[: 2 * PROBED]
    paths = _paths(found.reader, drawn)
    for entry in drawn:
        data = load(found.reader.images, paths.get(entry.image_id))
        if not isinstance(data, Bad):
            pictures.append(Image.open(io.BytesIO(data)))
            captions.append(entry.caption)
        if len(captions) == PROBED:
            break
    if not captions:
        return None
    e = embed
    encoder = encoders.load(
        e.encoder, revision=e.revision, pooling=e.pooling, precision=e.precision, device=e.device, lake=lake
    )  # fmt: skip
    places = ranks(encoder.embed_texts(captions), encoder.embed_images(pictures), np.arange(len(captions)))
    k = max(1, min(10, len(captions) // 5))
    return Probe(len(captions), k, float((places == 0).mean()), float((places < k).mean()))


def _paths(reader: Reader, entries: Sequence[Entry]) -> dict[str, str]:
    """Where the images of some entries lie; some sources list them apart."""
    known = {entry.image_id: entry.path for entry in entries}
    listed = dict(reader.pictures()) if None in known.values() else {}
    return {image_id: path for image_id, at in known.items() if (path := at or listed.get(image_id)) is not None}


def require_weights(embed: EmbedConfig) -> None:
    """Raises ModelError, at once, where an encoder's weights are on no disk and no hub can be reached."""
    from scot.plan.needs import encoder_missing

    fault = encoder_missing(embed)
    if fault is not None and not hub_is_reached():
        raise ModelError(f"{fault}, and no hub is reached from here; or take another (--set embed.encoder=…)")


def chance_fault(embed: EmbedConfig, probed: Probe) -> str:
    """What is said about an encoder that is at chance."""
    others = [name for name in ROWS if name != embed.encoder]
    return (
        f"encoder {embed.encoder} is near chance on these pictures: it {probed}. Nothing that is trained on it can "
        f"search them. Take a published one: --set embed.encoder={others[0]} (or {', '.join(others[1:])}), whose "
        f"weights come from the hub or a folder weights/<name>"
    )
