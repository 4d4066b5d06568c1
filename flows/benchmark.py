"""`scot/benchmark`: FashionIQ, CIRR or CIRCO over a folder of images (§4.3)."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.common import Recorder, ended, open_lake
from scot_core.config import EmbedConfig, MethodsConfig, PublishedConfig
from scot_core.stages import recipes
from tasks.artifacts import benchmark_artifact
from tasks.states import in_words


@flow(name="scot", flow_run_name="benchmark {config.name}")
@in_words
def benchmark(
    config: PublishedConfig,
    combiner: str | None = None,
    encoder: EmbedConfig | None = None,
    methods: MethodsConfig | None = None,
    lake: str | None = None,
) -> State:
    """Embed what the benchmark needs and write table `benchmarks`, or the files for its evaluation server.

    Args:
        config: the benchmark, and where its files are.
        combiner: a key of table combiners or a folder of weights, by default the promoted one, else the newest.
        encoder: by default the one that the Combiner was trained on.
        methods: measure these ways of composing a query, into table `scores`, in place of the Combiner and baselines.
        lake: path or URL of the lake, by default SCOT_LAKE of the worker.
    """
    place, run = open_lake(lake), Recorder()
    if methods is not None:
        sitting = recipes.published_methods(run, place, config, combiner, encoder, methods)
        return ended(run, **sitting.scores)
    rows = recipes.published(run, place, config, combiner, encoder)
    benchmark_artifact(rows)
    return ended(run, benchmarks=rows)
