"""What is measured: benchmarks that follow training, published ones, and all methods."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from scot_core.config.base import Execution, Positive, StageConfig
from scot_core.paper import Variant

PublishedName = Literal["fashioniq", "cirr", "cirr-test1", "circo", "circo-test"]
LakeBenchmark = Literal["catalogue", "catalogue-development", "mined"]
PUBLISHED: tuple[str, ...] = get_args(PublishedName)


class MeasureConfig(StageConfig):
    """How a benchmark is measured."""

    STAGE_VERSION = 2  # recall on what neither modality answers alone

    allow_missing: bool = False
    """Go on without images that are missing or broken: they are no candidates, and queries about them are misses."""
    resamples: Positive = 2000
    """Bootstrap samples of the queries, for the 95 % intervals."""
    seed: int = 0
    """Of the resampling."""


class BenchmarkConfig(MeasureConfig):
    """Composed retrieval, measured (§4.3): the benchmarks that follow training."""

    names: Annotated[tuple[LakeBenchmark | PublishedName, ...], Field(min_length=1)] = ("catalogue",)
    """Benchmarks: `catalogue` where the captions are the catalogue's, and `catalogue-development`, on which settings
    are chosen; `mined` where triplets are mined, of the captions that were held out; published ones from folders in
    SCOT_DATA."""
    queries: Positive = 1000
    """Benchmark mined: queries at most."""
    max_drop: float | None = Execution(None, ge=0)
    """A gate: points of the main metric that may be lost against the promoted generation; none compares nothing."""

    def of(self, name: PublishedName) -> PublishedConfig:
        """The same measuring, of one published benchmark where it usually lies."""
        return PublishedConfig(name=name, **{field: getattr(self, field) for field in MeasureConfig.model_fields})


class PublishedConfig(MeasureConfig):
    """One published benchmark over a folder of images, or `own`: a table of one's own queries over one's own images."""

    name: PublishedName | Literal["own"]
    """Benchmark and split; `-test1` and `-test` have hidden targets and give files for the evaluation server."""
    root: str = Execution("")
    """Folder of the annotations as published; empty for the benchmark's folder in SCOT_DATA."""
    queries: str | None = Execution(None)
    """Benchmark own: its table of reference, text and target; the images are those below `images`."""
    images: str | None = Execution(None)
    """Folder of the images; none for the root."""
    shard_rows: Positive = 1000
    """Images in a shard."""

    @property
    def variant(self) -> Variant:
        """Benchmark and split."""
        return Variant.parse(self.name)


class MethodsConfig(StageConfig):
    """Every way of composing a query, measured on the same queries (`scot_core.methods`)."""

    names: tuple[str, ...] = ()
    """Methods that are measured, such as scot,searle,tuned-sum; none for every one."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)] = (0, 1, 2)
    """Of methods that draw something when they are asked, such as searle-oti; those that are trained have their own."""
    development: bool = False
    """Measure on the catalogue's development draw, on which settings are chosen, not on its test."""
    timed: int = Execution(30, gt=0)
    """Queries that are timed one by one, at most."""
