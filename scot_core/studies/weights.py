"""How much a Combiner lets the text weigh (Figure 4), query by query: table `scores`, in percent."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.fingerprint import fingerprint
from scot_core.stages.methods.exams import Exam
from scot_core.stages.methods.measure import Row, score_columns, score_rows
from scot_core.stages.step import Step, Tick
from scot_core.stages.train import combiners_in
from scot_core.studies.spec import TEXT_WEIGHT

VERSION = 1


class MeasureWeights(Step):
    """The scalar s that the raw text embedding is mixed with, of each query and seed; the image gets 1 - s."""

    stage, unit = "methods", "runs"

    def __init__(self, lake: Lake, exam: Exam, combiners: Dataset) -> None:
        super().__init__(lake)
        self._exam, self._combiners = exam, combiners
        self.name = f"{TEXT_WEIGHT} on {exam.name}"

    @cached_property
    def outputs(self) -> Mapping[str, Identity]:
        inputs, config = [self._combiners, *self._exam.inputs], {**self._exam.config, "metric": TEXT_WEIGHT}
        prints = [*(dataset.fingerprint for dataset in inputs), *self._exam.prints]
        seal = fingerprint("weights", VERSION, config, prints)
        label = f"{self._exam.name}-text-weight"
        return {"scores": Identity("scores", self._exam.source, label, seal, config, [one.reference for one in inputs])}

    def shards(self) -> Sequence[int]:
        return [len(self._combiners.config["seeds"])]

    def rows_in(self) -> None:
        """Queries and runs: as many as there are."""

    def work(self, shard: int, tick: Tick) -> None:
        import torch

        opened, rows = self._exam.opened, list[Row]()
        with tempfile.TemporaryDirectory() as folder:
            loaded = combiners_in(self._combiners, Path(folder))
        image, text = torch.from_numpy(opened.queries.images), torch.from_numpy(opened.queries.texts)
        for seed, combiner in loaded.items():
            with torch.inference_mode():
                weights = combiner.modality_weight(image, text).double().numpy()
            rows += score_rows(opened, f"seed-{seed}", {TEXT_WEIGHT: opened.benchmark.per_unit(100 * weights)})
            tick(1)
        encoder = str(self._exam.inputs[0].config["encoder"])
        self.drafts["scores"].write_part(shard, score_columns(self._exam, TEXT_WEIGHT, encoder, rows))
