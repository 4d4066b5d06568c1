"""Stage benchmark: composed retrieval, measured (§4.3)."""

from __future__ import annotations

from scot_core.config import BenchmarkConfig, EmbedConfig, PublishedConfig
from scot_core.lake import Dataset, Lake
from scot_core.stages.benchmark.chosen import choose_combiner
from scot_core.stages.benchmark.measure_catalogue import MeasureCatalogue
from scot_core.stages.benchmark.measure_mined import MeasureMined
from scot_core.stages.benchmark.measure_published import MeasurePublished
from scot_core.stages.embed import Embeddings
from scot_core.stages.embed.benchmarks import embed_benchmark_images, embed_benchmark_texts, open_published
from scot_core.stages.step import Run


def benchmark(
    run: Run, lake: Lake, config: BenchmarkConfig, combiners: Dataset, triplets: Dataset, vectors: Embeddings
) -> dict[str, Dataset]:
    """Returns the rows of each benchmark by its name; the catalogue's only where the captions are the catalogue's."""
    measured: dict[str, Dataset] = {}
    for name in config.names:
        if name == "mined":
            step = MeasureMined(lake, config, combiners, triplets, vectors.images, vectors.texts)
            measured[name] = run(step)["benchmarks"]
        elif name == "catalogue" or name == "catalogue-development":
            if vectors.gallery is not None:
                inputs = (combiners, triplets, vectors.images, vectors.texts, vectors.gallery)
                measured[name] = run(MeasureCatalogue(lake, config, name, *inputs))["benchmarks"]
        else:
            measured[name] = published(run, lake, config.of(name), combiners.key, None)
    return measured


def published(
    run: Run, lake: Lake, config: PublishedConfig, combiner: str | None, encoder: EmbedConfig | None
) -> Dataset:
    """Returns the rows of one published benchmark; see `choose_combiner` for what None means."""
    chosen, embed = choose_combiner(lake, combiner, encoder)
    opened = open_published(config)
    images = run(embed_benchmark_images(lake, config, embed, opened))["embeddings"]
    texts = run(embed_benchmark_texts(lake, config, embed, opened))["embeddings"]
    return run(MeasurePublished(lake, config, opened, images, texts, chosen))["benchmarks"]
