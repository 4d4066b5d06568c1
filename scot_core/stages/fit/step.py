"""One encoder, fitted: projections of two towers' features, or the shipped architecture from nothing."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scot_core.benchmarks.mined import HeldOut, hold_out
from scot_core.config import FitConfig, GenerateConfig
from scot_core.config.encoding import OTHER_DRAW
from scot_core.encoders.catalogue_spec import CatalogueConfig, described
from scot_core.encoders.fitted_spec import FOLDER, Shapes
from scot_core.errors import DataError
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.draft import files_of
from scot_core.stages.embed.vectors import made_by
from scot_core.stages.fit.recalled import HELD_OUT
from scot_core.stages.step import Step, Tick, identities

if TYPE_CHECKING:
    import torch

    from scot_core.fit import Curve
    from scot_core.stages.fit.learners import Saved

TRAIN_SAMPLE = 1000  # training pictures whose captions are looked for in the end


class FitEncoder(Step):
    """Weights as files, the loss and the held-out recall as rows of table `encoders`."""

    stage, name, unit = "fit", "fit the encoder", "steps"

    def __init__(
        self, lake: Lake, config: FitConfig, generate: GenerateConfig, captions: Dataset, features: Sequence[Dataset]
    ) -> None:
        """`features`: of the images, of each view of them, and of the captions; none without towers."""
        super().__init__(lake)
        self.config, self._generate, self._captions, self._features = config, generate, captions, features

    @property
    def outputs(self) -> Mapping[str, Identity]:
        held = {"held_out": self._generate.held_out, "held_out_seed": self._generate.seed}
        apart = held if self._generate.is_mined else {}
        return identities(
            "encoders", source=self._captions.source, label="fit", sealed_as="fit", version=FitConfig.STAGE_VERSION,
            config={**self.config.identity(), **apart, "makes": self._makes()},
            inputs=[self._captions, *self._features],
        )  # fmt: skip

    def _makes(self) -> dict[str, Any]:
        """What is known of the encoder's spec before there are weights."""
        if not self._features:
            return described(CatalogueConfig(vocabulary=()))
        shapes = self._shapes()
        return {
            "dim": shapes.dim,
            "image_size": shapes.image.image_size,
            "preprocessing": f"image: {shapes.image.preprocessing}; text: {shapes.text.preprocessing}",
            "pooling": f"image: {shapes.image.name}, {shapes.image.pooling}, projected; "
            f"text: {shapes.text.name}, {shapes.text.pooling}, projected",
            "precision": shapes.image.precision,
        }

    def _shapes(self) -> Shapes:
        c = self.config
        return Shapes(
            image=made_by(self._features[0]), text=made_by(self._features[-1]), dim=c.dim,
            image_hidden=c.image_hidden, text_hidden=c.text_hidden, image_dropout=c.image_dropout,
            text_dropout=c.text_dropout,
        )  # fmt: skip

    def shards(self) -> Sequence[int]:
        return [self.config.steps * len(self.config.draws())]

    def rows_in(self) -> None:
        """Numbers of a run: as many as there are."""

    def work(self, shard: int, tick: Tick) -> None:
        import torch

        from scot_core.fit import Rows
        from scot_core.fit import fit as fit_by_contrast
        from scot_core.stages.fit.learners import one_of

        columns = self._captions.read(["image_id", "caption"]).to_pydict()
        pairs = list(zip(columns["image_id"], columns["caption"], strict=True))
        test = self._held_out(pairs)
        known = [row for row, pair in enumerate(pairs) if test is None or test.trains(*pair)]
        other = OTHER_DRAW + self.config.seed  # what generate holds out is drawn with the same digests
        chosen = hold_out([pairs[row] for row in known], self.config.validation, other)
        training = [row for row in known if chosen.trains(*pairs[row])]
        validation = [row for row in known if pairs[row][0] in chosen.images]
        rows = Rows(_by_caption(pairs, training), torch.tensor(validation))
        learner = self._learner(pairs, torch.tensor(training))
        draft, done = self.drafts["encoders"], 0
        fits: list[Saved] = []
        curves: list[Curve] = []

        def on_step(step: int) -> None:
            nonlocal done
            tick(len(fits) * self.config.steps + step - done)
            done = len(fits) * self.config.steps + step

        for draw in self.config.draws():
            one = learner.anew(draw.seed)
            curves.append(fit_by_contrast(one, rows, draw, draft.work_folder() / f"fit-{len(fits)}", on_step))
            on_step(self.config.steps)  # where it stopped sooner
            fits.append(one)
        learner = one_of(fits, torch.tensor(training))
        unseen = validation if test is None else [row for row, pair in enumerate(pairs) if pair[0] in test.images]
        measured = {
            "recall": learner.recall(torch.tensor(unseen or validation)),
            "recall_in_training": learner.recall(torch.tensor(training[:TRAIN_SAMPLE])),
            "chance": 100 / len({caption for _, caption in pairs}),
            "pictures": float(len(unseen or validation)),
        }
        with tempfile.TemporaryDirectory() as folder:
            learner.save(Path(folder))
            draft.write_part(shard, self._columns(curves, measured), files_of(Path(folder), FOLDER))

    def _held_out(self, pairs: Sequence[tuple[str, str]]) -> HeldOut | None:
        """What mined triplets are kept away from; None where no triplets are mined."""
        g = self._generate
        return hold_out(pairs, g.held_out, g.seed) if g.is_mined else None

    def _learner(self, pairs: Sequence[tuple[str, str]], training: torch.Tensor) -> Saved:
        from scot_core.stages.fit.learners import FromNothing, OnFeatures

        if self._features:
            return OnFeatures.of(self._shapes(), self._features, pairs, training)
        return FromNothing.of(self._captions, pairs, training)

    def _columns(self, curves: Sequence[Curve], measured: Mapping[str, float]) -> dict[str, Any]:
        """The steps of one fit are counted on from those of the fit before."""
        rows = []
        for before, curve in zip(count(0, self.config.steps), curves, strict=False):
            rows += [("train", before + step, "loss", loss) for step, loss in curve.losses]
            rows += [("validation", before + step, "recall", recall) for step, recall in curve.recalls]
        rows += [(HELD_OUT, before + curve.best, metric, value) for metric, value in measured.items()]
        columns = dict(zip(("phase", "step", "metric", "value"), map(list, zip(*rows, strict=True)), strict=True))
        return {"source": [self._captions.source] * len(rows), **columns}


def _by_caption(pairs: Sequence[tuple[str, str]], rows: Sequence[int]) -> list[torch.Tensor]:
    """The rows of each different caption."""
    import torch

    if not rows:
        raise DataError("no captioned picture is left to fit an encoder to: hold out fewer (generate.held_out)")
    found: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows:
        found[pairs[row][1]].append(row)
    return [torch.tensor(of) for of in found.values()]
