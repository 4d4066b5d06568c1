"""The page about published benchmarks, beside what the paper reports; and about those of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scot_core.benchmarks.baselines import BASELINES
from scot_core.benchmarks.reported import BACKBONES, Line, beside
from scot_core.lake import Dataset, Lake
from scot_core.report import plots
from scot_core.report.lineage import Lineage, trace
from scot_core.report.page import fill
from scot_core.report.results import Results

TITLES = {
    "fashioniq": "FashionIQ val",
    "cirr": "CIRR val",
    "cirr-test1": "CIRR test1",
    "circo": "CIRCO val",
    "circo-test": "CIRCO test",
    "own": "queries of one's own",
    "mined": "held-out captions of the collection",
}


@dataclass(frozen=True)
class Section:
    """One benchmark of the page."""

    name: str
    results: Results
    lines: Sequence[Line]
    plot: str | None
    lost: int
    same_backbone: bool

    @property
    def title(self) -> str:
        return TITLES[self.name]

    @property
    def metrics(self) -> list[str]:
        """Metrics over all queries."""
        return [metric for metric in self.lines[0].values if "/" not in metric]


def render(lake: Lake, newest: Dataset, stamp: str, links: Mapping[str, str]) -> str:
    """The page of the newest benchmark and of the others that were measured with the same Combiner and encoder."""
    rows = newest.read().to_pylist()
    combiner = newest.config["combiner"]
    lineage = trace(lake, newest)
    sections = [_section(lake, dataset) for dataset in _measured_alike(lake, newest)]
    return fill(
        "published.html.jinja",
        lineage,
        stamp,
        links=links,
        encoder=str(rows[0]["encoder"]),
        combiner=f"Combiner {combiner}" if combiner else "baselines alone",
        sections=sections,
    )


def _measured_alike(lake: Lake, newest: Dataset) -> list[Dataset]:
    """The newest dataset with rows of each published benchmark, by the same encoder and Combiner."""
    known = lake.table("benchmarks").matching(stage=newest.stage)
    alike = [d for d in known if d.rows and _measured_with(lake, d) == _measured_with(lake, newest)]
    found = {str(d.config["name"]): d for d in alike}
    return [found[name] for name in sorted(found)]


def _measured_with(lake: Lake, dataset: Dataset) -> tuple[Any, Any]:
    embeddings = _embeddings(trace(lake, dataset))
    spec = None if embeddings is None else embeddings.config["spec"]
    return dataset.config.get("combiner"), spec


def _section(lake: Lake, dataset: Dataset) -> Section:
    rows = dataset.read().to_pylist()
    own = next((row["method"] for row in reversed(rows) if row["method"] not in BASELINES), None)
    lines = beside(rows)
    results = Results(rows, own)
    embeddings = _embeddings(trace(lake, dataset))
    return Section(
        name=str(dataset.config["name"]),
        results=results,
        lines=lines,
        plot=plots.gains_plot(lines, results.main) if lines else None,
        lost=embeddings.rejected if embeddings else 0,
        same_backbone=str(rows[0]["encoder"]) in BACKBONES,
    )


def _embeddings(lineage: Lineage) -> Dataset | None:
    return next((d for d in lineage.inputs(lineage.root) if d.config.get("what") == "benchmark-images"), None)
