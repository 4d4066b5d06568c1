"""`scot/train`: the Combiner, then its benchmark, as dependent tasks (§3.2-3.4, §4.3)."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.common import Recorder, ended, given, of_source, open_lake
from scot_core.config import BenchmarkConfig, TrainConfig
from scot_core.stages import recipes
from scot_core.stages.embed import Embeddings
from tasks.artifacts import benchmark_artifact


@flow(name="scot", flow_run_name="train with loss {config.loss}")
def train(
    config: TrainConfig = TrainConfig(),
    benchmark: BenchmarkConfig = BenchmarkConfig(),
    triplets: str | None = None,
    images: str | None = None,
    texts: str | None = None,
    gallery: str | None = None,
    lake: str | None = None,
) -> State:
    """Write tables `combiners` and `benchmarks` from the generated `triplets` and their `embeddings`."""
    place, run = open_lake(lake), Recorder()
    learned_from = given(place, "triplets", triplets, stage="generate")
    vectors = Embeddings(
        images=given(place, "embeddings", images, stage="embed-images"),
        texts=given(place, "embeddings", texts, stage="embed-texts"),
        gallery=of_source(place, "embeddings", gallery, like=learned_from, stage="embed-gallery"),
    )
    combiners = recipes.train(run, place, config, learned_from, vectors)
    measured = recipes.benchmark(run, place, benchmark, combiners, learned_from, vectors)
    for rows in measured.values():
        benchmark_artifact(rows)
    return ended(run, combiners=combiners, **measured)
