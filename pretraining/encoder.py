"""Pretrain the catalogue's image-text encoder: `python -m pretraining.encoder --out DIR`.

Every product is of the split `seen`: no drawing and no text shows what the catalogue's benchmark holds out; with
`--products whole` they are of all splits, which makes the encoder that knows what is held out (`catalogue-whole`).
Drawings are rendered once into DIR/work, in families: a product and three edits of it, so that every batch holds
products that differ in one or two attributes. Texts are written anew at every step: full and partial captions, and
modification texts, all with noise. The loss has two terms:

- symmetric InfoNCE between images and texts. A text is true of every image that shows what it says, so a
  text's target is uniform over those images, and captions that are true of an image by chance are left out
  of its denominator;
- a bag of words: one linear head reads from an image's or a text's vector which value each attribute takes,
  for texts only the attributes they speak of ("make it larger" speaks of the size, "remove the badge" of
  the badge).

DIR receives model.safetensors, config.json and provenance.json. An interrupted run goes on from its last
checkpoint; `--minutes` interrupts it on purpose.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from pretraining.encoder_batches import FAMILY, Batch, Pixels, batches, draw_distinct, draw_families, drawings
from pretraining.encoder_texts import CONCEPTS, full_caption, vocabulary
from scot_core import checkpoint
from scot_core.catalogue.world import SPLITS, Product
from scot_core.encoders.catalogue import DualEncoder
from scot_core.encoders.catalogue_image import normalise
from scot_core.encoders.catalogue_spec import WEIGHTS, CatalogueConfig
from scot_core.encoders.catalogue_text import Tokeniser
from scot_core.errors import ConfigError
from scot_core.lake.fingerprint import digest

BAG_WEIGHT = 0.2
TEST_PRODUCTS = 1000
PRETRAINING_SEED, TEST_SEED = 1_000_000, 7_000_000  # rendering seeds that never meet
CHECKPOINT = "checkpoint.safetensors"
SEEN, WHOLE = "seen", "whole"


@dataclass(frozen=True)
class Schedule:
    """What fixes a run: with the same schedule (and library versions) the same steps are taken."""

    seed: int
    images: int
    steps: int
    families: int  # in a batch
    modifications: int  # in a batch
    learning_rate: float
    products: str = SEEN  # or WHOLE

    @property
    def split(self) -> str | None:
        """That every product is of; none for the whole catalogue."""
        return None if self.products == WHOLE else self.products

    def check(self) -> None:
        """Raises `ConfigError` for numbers that make no batch."""
        if min(self.steps, self.families) < 1 or self.images < self.families * FAMILY:
            raise ConfigError(
                f"{self.steps} steps with batches of {self.families} families out of {self.images} images cannot "
                f"be run: at least one of each, and {FAMILY} images for every family of a batch"
            )

    def rate(self, step: int) -> float:
        """Linear warm-up over the first 5%, then a cosine to zero."""
        done = step / self.steps
        return self.learning_rate * min(done / 0.05, 0.5 + 0.5 * math.cos(math.pi * done))


class Learner(nn.Module):
    """The encoder with the temperature and the bag-of-words head that pretraining needs."""

    def __init__(self, encoder: DualEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.log_scale = nn.Parameter(torch.tensor(2.6))
        self.head = nn.Linear(encoder.config.dim, sum(map(len, CONCEPTS.values())))

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(contrastive, bag of words), two scalars."""
        image = normalize(self.encoder.image(normalise(batch.pixels)), dim=1)
        text = normalize(self.encoder.text(batch.tokens), dim=1)
        scores = text @ image.T * self.log_scale.exp().clamp(max=100)
        bag = self._bag(torch.cat([image, text]), torch.cat([batch.shown, batch.said]))
        return contrastive(scores, agreement(batch.said, batch.shown)), bag

    def _bag(self, vectors: Tensor, codes: Tensor) -> Tensor:
        logits = self.head(vectors * math.sqrt(vectors.shape[1])).split([*map(len, CONCEPTS.values())], dim=1)
        losses = [
            cross_entropy(values, code, ignore_index=-1, reduction="sum")
            for values, code in zip(logits, codes.T, strict=True)
        ]
        return torch.stack(losses).sum() / len(vectors)


def agreement(said: Tensor, shown: Tensor) -> Tensor:
    """(N, B) bool: whether every attribute that text n speaks of has that value in image b."""
    return ((said[:, None] == shown[None]) | (said[:, None] < 0)).all(-1)


def contrastive(scores: Tensor, true: Tensor) -> Tensor:
    """Mean of both directions of InfoNCE.

    `scores` (N, B): texts by images, caption b before all others and belonging to image b; `true` (N, B) bool.
    """
    images = scores.shape[1]
    share = true / true.sum(1, keepdim=True).clamp(min=1)
    to_image = -(share * scores.log_softmax(1)).sum(1)[true.any(1)].mean()
    others = true[:images].T & ~torch.eye(images, dtype=torch.bool)
    to_caption = cross_entropy(scores[:images].T.masked_fill(others, -math.inf), torch.arange(images))
    return (to_image + to_caption) / 2


@torch.inference_mode()
def score(model: DualEncoder, products: Sequence[Product], pixels: Pixels) -> dict[str, float]:
    """Retrieval among distinct products with full captions, in percent."""
    model.eval()
    tokenise = Tokeniser(model.config.vocabulary, model.config.buckets)
    captions = [full_caption(product, style) for style, product in enumerate(products)]
    image = normalize(model.image(normalise(torch.from_numpy(pixels))), dim=1)
    text = normalize(model.text(tokenise(captions)), dim=1)
    model.train()
    scores, own = image @ text.T, torch.arange(len(products))
    return {
        "image_to_caption_R@1": 100 * (scores.argmax(1) == own).double().mean().item(),
        "caption_to_image_R@1": 100 * (scores.argmax(0) == own).double().mean().item(),
    }


def train_step(learner: Learner, optimiser: torch.optim.Optimizer, batch: Batch, rate: float) -> dict[str, float]:
    """One update; returns the two terms of the loss and the temperature's inverse."""
    optimiser.param_groups[0]["lr"] = rate
    match, bag = learner(batch)
    optimiser.zero_grad(set_to_none=True)
    (match + BAG_WEIGHT * bag).backward()
    nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
    optimiser.step()
    return {"match": match.item(), "bag": bag.item(), "scale": learner.log_scale.exp().item()}


def pretrain(schedule: Schedule, out: Path, minutes: float) -> None:
    """Runs or resumes a schedule and writes the three files; stops with a checkpoint after `minutes`.

    Raises `ConfigError` for a schedule that cannot be run, or when `out` holds another schedule's checkpoint.
    """
    schedule.check()
    work, began = out / "work", time.monotonic()
    torch.manual_seed(schedule.seed)
    products = draw_families(schedule.images, random.Random(schedule.seed), schedule.split)
    tests = {split: draw_distinct(TEST_PRODUCTS, split, random.Random(TEST_SEED)) for split in SPLITS}
    seen = {split: drawings(test, TEST_SEED, work) for split, test in tests.items()}
    pixels = drawings(products, PRETRAINING_SEED, work)
    config = CatalogueConfig(vocabulary=vocabulary(schedule.split))
    learner = Learner(DualEncoder(config))
    optimiser = torch.optim.AdamW(learner.parameters(), weight_decay=0.02, fused=True)
    trained = {**dict(learner.named_parameters()), **dict(learner.named_buffers())}
    note = asdict(schedule)
    first, spent_before = checkpoint.restore(work / CHECKPOINT, trained, optimiser, note=note)
    if (work / CHECKPOINT).exists() and not first:
        raise ConfigError(f"{work / CHECKPOINT} belongs to another schedule: delete it, or choose another --out")
    before = sum(spent_before)
    print(
        f"{_parameters(learner.encoder):,} parameters, {len(config.vocabulary)} words, {first} steps done", flush=True
    )
    tokenise, steps = Tokeniser(config.vocabulary, config.buckets), range(first, schedule.steps)
    supply = batches(
        products,
        pixels,
        tokenise,
        seed=schedule.seed,
        steps=steps,
        families=schedule.families,
        modifications=schedule.modifications,
        split=schedule.split,
    )
    training = time.monotonic()
    for step, batch in enumerate(supply, start=first + 1):
        state = train_step(learner, optimiser, batch, schedule.rate(step))
        spent = time.monotonic() - training
        late = time.monotonic() - began > 60 * minutes
        if step % 50 == 0:
            speed = (step - first) / spent
            values = "  ".join(f"{name} {value:.3f}" for name, value in state.items())
            print(
                f"step {step}/{schedule.steps}  {values}  {speed * schedule.families * FAMILY:.0f} images/s  "
                f"left {(schedule.steps - step) / speed / 60:.1f} min",
                flush=True,
            )
        if step % 250 == 0 or step == schedule.steps or late:
            result = {split: score(learner.encoder, tests[split], seen[split]) for split in SPLITS}
            print(f"step {step}  {result}", flush=True)
            checkpoint.save(work / CHECKPOINT, trained, optimiser, step, note=note, record=[before + spent])
            write(out, learner.encoder, schedule, step, before + spent, result)
        if late and step < schedule.steps:
            print(f"{minutes:g} minutes are over at step {step}; the same command goes on from here", flush=True)
            return


_PRODUCTS = {
    SEEN: "of the split seen alone, in pictures, captions and modification texts",
    WHOLE: "of all splits, those that the benchmark holds out as well",
}


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def write(
    out: Path, model: DualEncoder, schedule: Schedule, step: int, seconds: float, result: dict[str, dict[str, float]]
) -> None:
    """The weights and where they come from."""
    model.save(out)
    provenance = {
        "script": "python -m pretraining.encoder",
        "schedule": asdict(schedule),
        "steps_done": step,
        "training_seconds": round(seconds),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "parameters": _parameters(model),
        "revision": digest((out / WEIGHTS).read_bytes()),
        "score": {"distinct_products": TEST_PRODUCTS, "captions": "full", **result},
        "products": _PRODUCTS[schedule.products],
    }
    (out / "provenance.json").write_text(json.dumps(provenance, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights and the work files")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop with a checkpoint after this long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=48_000, help="drawings to pretrain on")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--families", type=int, default=48, help=f"in a batch, {FAMILY} images each")
    parser.add_argument("--modifications", type=int, default=64, help="modification texts in a batch")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--products", choices=(SEEN, WHOLE), default=SEEN, help="what it may see of the catalogue")
    given = vars(parser.parse_args(arguments))
    out, minutes = given.pop("out"), given.pop("minutes")
    try:
        pretrain(Schedule(**given), out, minutes)
    except ConfigError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from the last checkpoint")


if __name__ == "__main__":
    main()
