"""Optimisation-based textual inversion: a pseudo-token for each image, found by gradient descent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scot_core.descent import REPORT_EVERY, StepListener
from scot_core.errors import ConfigError, DataError, ShapeError
from scot_core.searle.objectives import cosine_distances
from scot_core.searle.sentences import TEMPLATES, Phrase
from scot_core.searle.towers import PseudoTokenTower

KEPT_FEATURES = 1 << 16  # of phrases; beyond that they are computed anew


@dataclass(frozen=True)
class OtiConfig:
    """Defaults are those of SEARLE's `oti_inversion.py`, whose half precision is left out. `lambda_gpt` 0 is the
    ablation without L_gpt. Raises ConfigError for a value that cannot be."""

    steps: int = 350
    learning_rate: float = 2e-2
    weight_decay: float = 0.01
    lambda_cos: float = 1.0
    lambda_gpt: float = 0.5
    ema_decay: float = 0.99
    init_std: float = 0.02
    concepts: int = 15  # of an image, nearest first; those beyond are not read

    def __post_init__(self) -> None:
        for name in ("steps", "learning_rate", "lambda_cos", "concepts"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} of a textual inversion must be positive, not {getattr(self, name)}")
        for name in ("weight_decay", "lambda_gpt", "init_std"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} of a textual inversion must not be negative, not {getattr(self, name)}")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"ema_decay of a textual inversion must be in [0, 1), not {self.ema_decay}")


@dataclass(frozen=True, slots=True)
class Inverted:
    """Pseudo-tokens (B, W) of images, and the mean of each one's loss over the last `REPORT_EVERY` steps, (B,)."""

    words: Tensor
    losses: Tensor


def invert(
    tower: PseudoTokenTower,
    ids: Sequence[str],
    image_features: Tensor,
    concepts: Sequence[Sequence[str]],
    phrases: Mapping[str, Sequence[Phrase]],
    config: OtiConfig,
    seed: int,
    on_step: StepListener = lambda step, loss: None,
) -> Tensor:
    """The pseudo-tokens (B, W) of `invert_all`. Raises what it raises, and DataError where one does not stay finite."""
    words = invert_all(tower, ids, image_features, concepts, phrases, config, seed, on_step).words
    if lost := torch.nonzero(~words.isfinite().all(dim=1)).flatten().tolist():
        raise DataError(f"the pseudo-token of image {ids[lost[0]]} is not finite; look at the image's feature")
    return words


def invert_all(
    tower: PseudoTokenTower,
    ids: Sequence[str],
    image_features: Tensor,
    concepts: Sequence[Sequence[str]],
    phrases: Mapping[str, Sequence[Phrase]],
    config: OtiConfig,
    seed: int,
    on_step: StepListener = lambda step, loss: None,
    known: PhraseFeatures | None = None,
) -> Inverted:
    """Pseudo-tokens for a batch of images: the moving average of each over the steps, on the tower's device.

    At each step an image meets one template, drawn at random, and one phrase, drawn from all phrases of its first
    `config.concepts` concepts. L_cos is the cosine distance between image and template with the pseudo-token, L_gpt
    that between the phrase and the phrase with the pseudo-token for the concept; the loss is their weighted mean. The
    average begins at the initial pseudo-token, as SEARLE's does, and is what SEARLE keeps, distils and queries with.

    What is drawn for an image depends on its id and the seed; losses are summed over the batch and not averaged, so
    that AdamW's epsilon meets the same gradient whatever the batch. So an image has the same pseudo-token in any batch,
    up to rounding; one whose feature is not finite gives a pseudo-token that is not.

    Args:
        ids: of the images.
        image_features: (B, D), normalised or not. float64 is computed in float64, all else in float32.
        concepts: names of each image's concepts, nearest first; those without phrases are passed over.
        phrases: of each concept, from `phrases_of`. Neither is read where `config.lambda_gpt` is 0.
        on_step: called with steps done and mean loss, every `REPORT_EVERY` steps and at the end.
        known: features of phrases that other batches met.

    Raises:
        ShapeError: arguments that do not fit together.
        DataError: an image without a phrase.
    """
    if image_features.ndim != 2 or not len(ids) == len(image_features) == len(concepts):
        raise ShapeError(
            f"{len(ids)} ids, {len(concepts)} lists of concepts and image features {tuple(image_features.shape)}; "
            "all must be of the same images, and the features (B, D)"
        )
    dtype = torch.promote_types(image_features.dtype, torch.float32)
    image = image_features.detach().to(tower.device, dtype, copy=True)
    choices = [_phrases(name, its, phrases, config) for name, its in zip(ids, concepts, strict=True)]
    draws = [_draw(seed, name, tower.word_dim, len(its), config) for name, its in zip(ids, choices, strict=True)]
    first = torch.stack([draw.first for draw in draws]) if draws else torch.empty(0, tower.word_dim)
    words = first.to(tower.device, dtype).requires_grad_()
    average, known = words.detach().clone(), known or PhraseFeatures(tower)
    last = torch.zeros(len(draws), dtype=dtype, device=tower.device)
    optimizer = torch.optim.AdamW([words], lr=config.learning_rate, weight_decay=config.weight_decay)
    for step in range(config.steps if draws else 0):
        templates = [TEMPLATES[draw.templates[step]] for draw in draws]
        losses = config.lambda_cos * cosine_distances(tower.features(templates, words), image)
        if config.lambda_gpt:
            drawn = [its[draw.phrases[step]] for its, draw in zip(choices, draws, strict=True)]
            losses = losses + config.lambda_gpt * known.distances(drawn, words)
        losses = losses / (config.lambda_cos + config.lambda_gpt)
        optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        average.lerp_(words.detach(), 1 - config.ema_decay)
        if config.steps - step <= REPORT_EVERY:
            last += losses.detach() / min(REPORT_EVERY, config.steps)
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == config.steps:
            on_step(step + 1, float(losses.detach().mean()))
    return Inverted(average, last)


class PhraseFeatures:
    """L_gpt, with the features of phrases as they are computed once: they are the same at every step."""

    def __init__(self, tower: PseudoTokenTower) -> None:
        self._tower = tower
        self._rows: dict[Phrase, int] = {}
        self._features: list[Tensor] = []

    def distances(self, phrases: Sequence[Phrase], words: Tensor) -> Tensor:
        """Row by row 1 - cos between phrase i and phrase i with words[i] for its concept, (B, W) -> (B,)."""
        known = self._known(phrases)
        return cosine_distances(self._tower.features([phrase.sentence for phrase in phrases], words), known)

    def _known(self, phrases: Sequence[Phrase]) -> Tensor:
        new = [phrase for phrase in dict.fromkeys(phrases) if phrase not in self._rows]
        if len(self._rows) + len(new) > KEPT_FEATURES:
            return self._tower.texts([phrase.text for phrase in phrases])
        if new:
            self._rows.update(zip(new, range(len(self._rows), len(self._rows) + len(new)), strict=True))
            self._features = [torch.cat([*self._features, self._tower.texts([phrase.text for phrase in new])])]
        return self._features[0][[self._rows[phrase] for phrase in phrases]]


@dataclass(frozen=True, slots=True)
class _Draw:
    """All that is random about one image: its first pseudo-token (W,), and numbers of templates and phrases by step."""

    first: Tensor
    templates: list[int]
    phrases: list[int]


def _draw(seed: int, name: str, width: int, phrases: int, config: OtiConfig) -> _Draw:
    own = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(own) >> 1)
    first = torch.randn(width, generator=generator) * config.init_std
    templates = torch.randint(len(TEMPLATES), (config.steps,), generator=generator)
    drawn = torch.randint(max(1, phrases), (config.steps,), generator=generator)
    return _Draw(first, templates.tolist(), drawn.tolist())


def _phrases(
    name: str, concepts: Sequence[str], phrases: Mapping[str, Sequence[Phrase]], config: OtiConfig
) -> list[Phrase]:
    if not config.lambda_gpt:
        return []
    found = [phrase for concept in concepts[: config.concepts] for phrase in phrases.get(concept, ())]
    if not found:
        raise DataError(
            f"image {name} has no phrase: there is none for its concepts {', '.join(concepts[: config.concepts])}"
        )
    return found
