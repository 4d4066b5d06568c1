"""`scot/train`: the Combiner, then its benchmark, as dependent tasks (§3.2-3.4, §4.3)."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.common import Recorder, ended, open_lake
from flows.inputs import for_train
from scot_core.config import BenchmarkConfig, TrainConfig
from scot_core.stages import recipes
from tasks.artifacts import benchmark_artifact
from tasks.states import in_words


@flow(name="scot", flow_run_name="train with loss {config.loss}")
@in_words
def train(
    config: TrainConfig = TrainConfig(),
    benchmark: BenchmarkConfig = BenchmarkConfig(),
    triplets: str | None = None,
    images: str | None = None,
    texts: str | None = None,
    gallery: str | None = None,
    lake: str | None = None,
) -> State:
    """Write tables `combiners` and `benchmarks` from the generated `triplets` and their `embeddings`.

    By default the newest vectors of texts, the triplets whose texts these are, and the vectors of their images.

    Args:
        config: the Combiner, its loss, and how it is trained.
        benchmark: what it is measured on.
        triplets: a key of table triplets, of stage generate.
        images: a key of table embeddings, of stage embed-images.
        texts: a key of table embeddings, of stage embed-texts.
        gallery: a key of table embeddings, of stage embed-gallery.
        lake: path or URL of the lake, by default SCOT_LAKE of the worker.
    """
    place, run = open_lake(lake), Recorder()
    learned_from, vectors = for_train(place, triplets, images, texts, gallery)
    combiners = recipes.train(run, place, config, learned_from, vectors)
    measured = recipes.benchmark(run, place, benchmark, combiners, learned_from, vectors)
    for rows in measured.values():
        benchmark_artifact(rows)
    recipes.require_no_fall(place, measured.values(), benchmark.max_drop)
    return ended(run, combiners=combiners, **measured)
