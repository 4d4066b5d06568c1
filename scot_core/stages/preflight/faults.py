"""What does not fit captions: an encoder, a teacher, a language model. A fault is a sentence that names settings."""

from __future__ import annotations

import io
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from scot_core.benchmarks.mined import build, hold_out
from scot_core.catalogue import grammar
from scot_core.config import EmbedConfig, FinetuneConfig, GenerateConfig, Pipeline, SeedConfig
from scot_core.encoders.presence import in_cache, require_encoder
from scot_core.encoders.rows import ROWS
from scot_core.encoders.weights import hub_is_reached
from scot_core.errors import DataError, ScotError
from scot_core.lake import Lake
from scot_core.llm import Reply
from scot_core.llm.local.weights import CATALOGUE_FALCON, resolve, weights_revision
from scot_core.stages.finetune import quality
from scot_core.stages.preflight.sample import Sample
from scot_core.triplets import local_completion

PROBED, ASKED = 256, 50  # pictures the encoder is tried on; captions the teacher is
FEWEST = 10  # pictures that a recall can be told from
FEWEST_TO_FIT = 200  # different captions; of 50, what was fitted found no held-out one
MINED = 2000  # captions of which queries are mined to see whether there are any
FOLDERS = 8  # that a fault names
TIMES_CHANCE = 3.0  # an encoder that finds less than this often is none for these captions


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


def folders_fault(folders: Sequence[str], found: Sample) -> list[str]:
    """Of folders in which no picture lies, where all pictures were looked at."""
    empty = [name for name in folders if not any(image.startswith(f"{name}/") for image in found.images)]
    if not empty or not found.whole:
        return []
    there = sorted({image.partition("/")[0] for image in found.images if "/" in image})
    more = f" and {len(there) - FOLDERS} more" if len(there) > FOLDERS else ""
    has = f"its folders are {', '.join(there[:FOLDERS])}{more}" if there else "it has no folders"
    return [f"train.folders names {', '.join(empty)}, where no picture of {found.place} lies: {has}"]


def counts(pipeline: Pipeline, found: Sample) -> list[str]:
    """Settings that take the place of counts larger than the data."""
    if not pipeline.generate.needs_adapter or not found.whole or pipeline.seed.count < found.pairs:
        return []
    return [f"seed.count={max(1, found.pairs - max(1, found.pairs // 5))}"]  # tuning is measured on the rest


def teacher_fault(seed: SeedConfig, captions: Sequence[str]) -> list[str]:
    """Why the catalogue's teacher cannot write for these captions; nothing where another one is asked."""
    if seed.endpoint.base_url or (kept := _known(captions)) >= max(seed.min_kept, 1 / ASKED):
        return []
    return [
        f"the catalogue's teacher knows the catalogue's captions only, and {kept:.0%} of {len(captions[:ASKED])} of "
        f"these make a triplet (for example {captions[0]!r}): mine them from the captions (--set "
        "generate.writer=mined), let a server write them all (--set generate.writer=endpoint "
        "--set generate.endpoint.base_url=… --set generate.endpoint.model=…), or name one that writes seeds "
        "(--set seed.endpoint.base_url=… --set seed.endpoint.model=…) and a model to tune on them (--llm smollm2)"
    ]


def model_fault(config: FinetuneConfig, captions: Sequence[str]) -> list[str]:
    """Why the language model that is to be tuned cannot be had here, or cannot write for these captions."""
    try:
        revision = weights_revision(config.base, config.revision)
        name = resolve(config.base)
    except ScotError as error:
        return [f"{error} (--set finetune.base=…)"]
    if name == config.base and "/" in name and not name.startswith(("/", ".", "~")) and not in_cache(name, revision):
        here = f"the language model {name} is not on this machine: `hf download {name} --revision {revision}`"
        return [] if hub_is_reached() else [f"{here}, and no hub is reached from here (--set finetune.base=…)"]
    if config.base != CATALOGUE_FALCON or (kept := _known(captions)) >= 1 / ASKED:
        return []
    return [
        f"the small Falcon has read the catalogue's captions only, and {kept:.0%} of {len(captions[:ASKED])} of these "
        f"are of their kind (for example {captions[0]!r}): tune another one (--llm smollm2, after `make smollm`), let "
        "the server write them all (--set generate.writer=endpoint --set generate.endpoint.base_url=… "
        "--set generate.endpoint.model=…), or mine them from the captions (--set generate.writer=mined)"
    ]


def fitting_fault(found: Sample) -> list[str]:
    """Why no encoder can be fitted to captions: they are too few."""
    if not found.whole or len(found.captions) >= FEWEST_TO_FIT:
        return []
    return [
        f"{len(found.captions)} different captions are too few to fit an encoder to, which takes some hundreds, better "
        f"thousands: bring more captioned pictures, or a published encoder (--set embed.encoder={next(iter(ROWS))}), "
        "whose weights come from the hub or a folder weights/<name>"
    ]


def measure_fault(generate: GenerateConfig, found: Sample) -> list[str]:
    """Why benchmark mined would have no query, which a few captions tell at once; of many nobody asks."""
    if not found.whole or len(found.captions) > MINED:
        return []
    pairs = [(caption, caption) for caption in found.captions]
    held = hold_out(pairs, generate.held_out, generate.seed)
    try:
        with tempfile.TemporaryDirectory() as work:
            build(pairs, held, limit=1, seed=generate.seed, work=Path(work))
    except DataError:
        return [
            f"benchmark mined would have no query: no caption of {len(pairs)} differs by one edit from one of the "
            f"{len(held.images)} that are held out: hold out more (--set generate.held_out=0.3), or leave it out "
            "(--set benchmark.names=catalogue) and measure with queries of your own (scot benchmark own)"
        ]
    return []


def _known(captions: Sequence[str]) -> float:
    """The share of the first captions that the catalogue's grammar makes a triplet of."""
    some = captions[:ASKED]
    replies = [Reply(_taught(caption), "stop", 0, 0) for caption in some]
    return quality(some, replies, None).kept / 100


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

    require_encoder(embed)
    pairs = list(islice(found.pictures(), PROBED))
    if not pairs:
        return None
    captions, pictures = [caption for caption, _ in pairs], [Image.open(io.BytesIO(data)) for _, data in pairs]
    e = embed
    encoder = encoders.load(
        e.encoder, revision=e.revision, pooling=e.pooling, precision=e.precision, device=e.device, lake=lake
    )  # fmt: skip
    places = ranks(encoder.embed_texts(captions), encoder.embed_images(pictures), np.arange(len(captions)))
    k = max(1, min(10, len(captions) // 5))
    return Probe(len(captions), k, float((places == 0).mean()), float((places < k).mean()))


def chance_fault(embed: EmbedConfig, probed: Probe) -> str:
    """What is said about an encoder that is at chance."""
    others = [name for name in ROWS if name != embed.encoder]
    return (
        f"encoder {embed.encoder} is near chance on these pictures: it {probed}. Nothing that is trained on it can "
        f"search them. Take a published one: --set embed.encoder={others[0]} (or {', '.join(others[1:])}), whose "
        "weights come from the hub or a folder weights/<name>; or fit one to them: --set embed.encoder=fitted"
    )
