"""What is fitted: projections of stored features, or both towers of the shipped architecture on the pictures."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from scot_core.draws import seed_of
from scot_core.encoders import catalogue_image, catalogue_text
from scot_core.encoders.catalogue import DualEncoder
from scot_core.encoders.catalogue_spec import CatalogueConfig
from scot_core.encoders.fitted import Projections
from scot_core.encoders.fitted_spec import Shapes
from scot_core.encoders.preprocessing import ImagePreprocessing
from scot_core.fit import Learner
from scot_core.lake import Dataset
from scot_core.lake.schema import text_id
from scot_core.stages.embed.vectors import vectors_by_id
from scot_core.stages.fit.joined import joined
from scot_core.triplets.wording import ASKING

SMALLEST = 1e-4  # deviation of a feature that hardly changes
TURNED = 20_000  # pictures, and their captions, that say along which directions several fits are kept
AT_ONCE = 256  # pictures or texts that the shipped architecture measures with at once
MOST_WORDS = 20_000  # of a vocabulary that is made here
LIT, SIZED, MOVED = 0.2, 0.25, 0.15  # how far a picture's light, size and place change in training


class Saved(Learner, Protocol):
    """A learner whose model can be kept, and begun anew."""

    def anew(self, seed: int) -> Saved:
        """The same with other first weights."""
        ...

    def save(self, folder: Path) -> None: ...


@dataclass(frozen=True)
class OnFeatures:
    """Projections over the features of images, (views, n, D), and of captions; `caption` is the row of a picture's."""

    model: Projections
    images: Tensor
    texts: Tensor
    caption: Tensor

    @classmethod
    def of(
        cls, shapes: Shapes, features: Sequence[Dataset], pairs: Sequence[tuple[str, str]], training: Tensor
    ) -> OnFeatures:
        """`features`: of the images, of each view of them, and of the captions."""
        model = Projections(shapes)
        images = []
        for dataset in features[:-1]:
            row, vectors = vectors_by_id([dataset])
            images.append(torch.from_numpy(vectors)[[row[image] for image, _ in pairs]])
        row, vectors = vectors_by_id([features[-1]])
        caption = torch.tensor([row[text_id(text)] for _, text in pairs])
        seen = torch.stack(images)
        model.mean.copy_(seen[0][training].mean(0))
        model.deviation.copy_(seen[0][training].std(0, correction=0).clamp(min=SMALLEST))
        return cls(model, seen, torch.from_numpy(vectors), caption)

    def anew(self, seed: int) -> OnFeatures:
        torch.manual_seed(seed_of(seed, -2))
        model = Projections(self.model.shapes)
        model.mean.copy_(self.model.mean)
        model.deviation.copy_(self.model.deviation)
        return replace(self, model=model)

    def pairs(self, rows: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """A view of each picture, drawn anew, and its caption."""
        view = torch.randint(len(self.images), (len(rows),), generator=draw)
        return self.model.of_images(self.images[view, rows]), self.model.of_texts(self.texts[self.caption[rows]])

    @torch.inference_mode()
    def recall(self, rows: Tensor) -> float:
        """Percent of the rows whose picture, as it is, finds its caption first among all."""
        return _found(self.model.of_images(self.images[0][rows]), self.model.of_texts(self.texts), self.caption[rows])

    def save(self, folder: Path) -> None:
        self.model.save(folder)


@dataclass(frozen=True)
class FromNothing:
    """Both towers, trained on pictures (n, size, size, 3) uint8; `caption` is the row of a picture's caption."""

    model: DualEncoder
    tokenise: catalogue_text.Tokeniser
    pixels: Tensor
    texts: Sequence[str]
    caption: Tensor

    @classmethod
    def of(cls, captions: Dataset, pairs: Sequence[tuple[str, str]], training: Tensor) -> FromNothing:
        """The vocabulary is that of the training captions, with the words that edits are asked with."""
        words = Counter(word for row in training.tolist() for word in catalogue_text.words(pairs[row][1]))
        often = {word for word, _ in words.most_common(MOST_WORDS)}
        config = CatalogueConfig(vocabulary=tuple(sorted(often | set(ASKING))))
        model = DualEncoder(config)
        seen: dict[str, np.ndarray] = {}
        prepare = ImagePreprocessing(config.image_size)
        for part in captions.read_parts(["image_id", "image"]):
            for row in part.to_pylist():
                if row["image"]["bytes"] is not None:
                    seen[row["image_id"]] = prepare.pixels(Image.open(io.BytesIO(row["image"]["bytes"])))
        texts = sorted({text for _, text in pairs})
        place = {text: row for row, text in enumerate(texts)}
        pixels = torch.from_numpy(np.stack([seen[image] for image, _ in pairs]))
        tokenise = catalogue_text.Tokeniser(config.vocabulary, config.buckets)
        return cls(model, tokenise, pixels, texts, torch.tensor([place[text] for _, text in pairs]))

    def anew(self, seed: int) -> FromNothing:
        torch.manual_seed(seed_of(seed, -2))
        return replace(self, model=DualEncoder(self.model.config))

    def pairs(self, rows: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Each picture moved, sized and lit a little differently, and its caption."""
        batch = catalogue_image.normalise(self.pixels[rows])
        light = 1 + LIT * (2 * torch.rand(len(rows), 1, 1, 1, generator=draw) - 1)
        size = 1 + SIZED * (2 * torch.rand(len(rows), generator=draw) - 1)
        turn = torch.zeros(len(rows), 2, 3)
        turn[:, 0, 0] = turn[:, 1, 1] = size
        turn[:, :, 2] = MOVED * (2 * torch.rand(len(rows), 2, generator=draw) - 1)
        grid = functional.affine_grid(turn, list(batch.shape), align_corners=False)
        seen = functional.grid_sample(batch * light, grid, padding_mode="border", align_corners=False)
        tokens = self.tokenise([self.texts[row] for row in self.caption[rows].tolist()])
        return _unit(self.model.image(seen)), _unit(self.model.text(tokens))

    @torch.inference_mode()
    def recall(self, rows: Tensor) -> float:
        """Percent of the rows whose picture finds its caption first among all."""
        images = [self.model.image(catalogue_image.normalise(self.pixels[part])) for part in torch.split(rows, AT_ONCE)]
        texts = [
            self.model.text(self.tokenise(self.texts[start : start + AT_ONCE]))
            for start in range(0, len(self.texts), AT_ONCE)
        ]
        return _found(_unit(torch.cat(images)), _unit(torch.cat(texts)), self.caption[rows])

    def save(self, folder: Path) -> None:
        self.model.save(folder)


def one_of(fits: Sequence[Saved], training: Tensor) -> Saved:
    """Fits to the same rows as one; of those from nothing there is but one."""
    first, models = fits[0], [fit.model for fit in fits if isinstance(fit, OnFeatures)]
    if not isinstance(first, OnFeatures):
        return first
    some = training[:: len(training) // TURNED + 1]
    texts = first.texts[sorted(set(first.caption[some].tolist()))]
    return replace(first, model=joined(models, first.images[0][some], texts))


def _unit(vectors: Tensor) -> Tensor:
    return functional.normalize(vectors, dim=1)


def _found(images: Tensor, texts: Tensor, own: Tensor) -> float:
    """Percent of the images (n, dim) whose nearest text of (m, dim) is their own."""
    first = torch.cat([(part @ texts.T).argmax(1) for part in torch.split(images, AT_ONCE)])
    return 100 * float((first == own).float().mean())
