"""The Combiner, trained on the triplets' frozen embeddings (§3.2-3.3)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from scot_core.config import TrainConfig
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.draft import files_of
from scot_core.lake.lineage import parents
from scot_core.lake.schema import text_id
from scot_core.stages.embed import Embeddings
from scot_core.stages.embed.vectors import rows_of, stored
from scot_core.stages.lessons import TEXTS, learned_besides, lessons, require_possible
from scot_core.stages.step import Run, Step, Tick, identities

if TYPE_CHECKING:
    from scot_core.combiner import Combiner
    from scot_core.training_set import TrainingSet

WEIGHED = 2000  # triplets that the weight of the text is averaged over


def train(run: Run, lake: Lake, config: TrainConfig, triplets: Dataset, vectors: Embeddings) -> Dataset:
    """Returns the Combiners."""
    more = learned_besides(run, lake, config, triplets, vectors)
    return run(TrainCombiner(lake, config, triplets, vectors.images, vectors.texts, *more))["combiners"]


class TrainCombiner(Step):
    """One Combiner for each seed: weights as `seed-<n>/`, loss curves as rows."""

    stage, unit = "train", "steps"

    def __init__(self, lake: Lake, config: TrainConfig, *given: Dataset) -> None:
        """`given`: triplets, embeddings of their images and texts, and what `learned_besides` says."""
        super().__init__(lake)
        self.config, self._given, self._source = config, given, given[0].source
        require_possible(config, given[0])
        self.name = f"train the Combiner ({config.loss})"

    @property
    def outputs(self) -> Mapping[str, Identity]:
        return identities(
            "combiners", source=self._source, label=f"train-{self.config.loss}", sealed_as="train",
            version=TrainConfig.STAGE_VERSION, config=self.config.identity(),
            inputs=self._given,
        )  # fmt: skip

    def shards(self) -> Sequence[int]:
        return [self.config.steps] * len(self.config.seeds)

    @cached_property
    def data(self) -> TrainingSet:
        triplets, images, texts, *more = self._given
        work = self.drafts["combiners"].work_folder()
        return lessons(training_set(triplets, images, texts, work), self.config, triplets, more, work)

    def work(self, shard: int, tick: Tick) -> None:
        from scot_core.train import train_combiner

        draft = self.drafts["combiners"]
        seed = self.config.seeds[shard]
        done = 0

        def on_step(step: int, _: float) -> None:
            nonlocal done
            tick(step - done)
            done = step

        trained = train_combiner(self.data, self.config, seed, draft.work_folder() / f"seed-{seed}", on_step)
        trained.combiner.encoder = self._given[1].config["spec"]
        trained.combiner.known_words = self.config.is_grounded and self.config.known_words
        with tempfile.TemporaryDirectory() as folder:
            trained.combiner.save(Path(folder))
            weights = files_of(Path(folder), f"seed-{seed}")
        draft.write_part(shard, self._columns(seed, trained.curve), weights)

    def rows_in(self) -> None:
        """Numbers of a run: as many as there are."""

    def _columns(self, seed: int, curve: Sequence[tuple[int, float]]) -> dict[str, Any]:
        fixed = {"source": self._source, "method": self.config.loss, "seed": seed, "metric": "loss"}
        columns = {name: [value] * len(curve) for name, value in fixed.items()}
        return columns | {"step": [step for step, _ in curve], "value": [loss for _, loss in curve]}


def training_set(
    triplets: Dataset, images: Dataset, texts: Dataset, work: Path, first: int | None = None
) -> TrainingSet:
    """Embeddings of every triplet, or of the first ones, in the triplets' order.

    Every vector lies once in a file in `work`, however many triplets have it, and so do row numbers: they are read when
    they are needed. Raises LakeError for an id without a vector.
    """
    from scot_core.training_set import Gathered, TrainingSet

    image, text = stored(images, work), stored(texts, work)
    of_images = rows_of(_first(triplets, ["image_id"], first), image, triplets)
    ids = (pa.array(map(text_id, some.to_pylist()), pa.string()) for some in _first(triplets, TEXTS, first))
    of_texts = rows_of(ids, text, triplets).view(-1, len(TEXTS))
    return TrainingSet(
        Gathered(image.vectors, of_images), *(Gathered(text.vectors, of_texts[:, n]) for n in range(len(TEXTS)))
    )


def _first(triplets: Dataset, names: Sequence[str], count: int | None) -> Iterator[pa.Array]:
    """These columns of every triplet, or of the first ones: all of a triplet, then all of the next."""
    left = triplets.rows if count is None else count
    for part in triplets.read_parts(names):
        rows = zip(*(part[name].to_pylist() for name in names), strict=True)
        yield pa.array(chain.from_iterable(islice(rows, left)), pa.string())
        left -= min(left, len(part))
        if left == 0:
            break


def combiners_in(dataset: Dataset, folder: Path) -> dict[int, Combiner]:
    """The committed Combiners by seed, read into a scratch folder first."""
    from scot_core.combiner import Combiner

    dataset.files_in(folder)
    return {int(seed): Combiner.load(folder / f"seed-{seed}") for seed in dataset.config["seeds"]}


def first_combiner(dataset: Dataset) -> Combiner:
    """That of the first seed alone."""
    from scot_core.combiner import Combiner

    seed = f"seed-{dataset.config['seeds'][0]}"
    with tempfile.TemporaryDirectory() as folder:
        return Combiner.load(dataset.files_in(Path(folder), below=f"{seed}/") / seed)


def text_share(lake: Lake, combiners: Dataset) -> float:
    """How much the first Combiner lets the text weigh, between 0 and 1, on average over triplets it learned from."""
    import torch

    triplets, images, texts = parents(lake, combiners)[:3]
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        data = training_set(triplets, images, texts, Path(folder), WEIGHED)
        weights = first_combiner(combiners).modality_weight(data.image[:WEIGHED], data.modification[:WEIGHED])
        return float(weights.mean())
