"""From a dataset of `benchmarks` to a page: gather, draw, fill in the template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import jinja2

from scot_core.lake import Dataset, Lake
from scot_core.report import diagram, plots
from scot_core.report.curves import training_curves, tuning
from scot_core.report.gallery import DEPTH, gallery
from scot_core.report.images import data_uri, svg_uri
from scot_core.report.lineage import Lineage, trace
from scot_core.report.results import BREAKDOWNS, SPLITS, Results, headline, label
from scot_core.report.samples import Writing, samples, writing
from scot_core.report.templates import templates

QUERIES, TRIPLETS = 8, 12  # shown


def render(lake: Lake, benchmarks: Dataset, stamp: str, links: Mapping[str, str]) -> str:
    """The page of the catalogue's benchmark, with `links` to others by their titles. `stamp` is written into it, so
    that a page can be told from an older one.

    Raises LakeError where something that the benchmark was made from is damaged or gone.
    """
    lineage = trace(lake, benchmarks)
    combiners = lineage.given("combiners")
    results = Results(benchmarks.read().to_pylist(), str(combiners.config["loss"]))
    triplets = lineage.given("triplets")
    adapters = lineage.find("adapters")
    tuned = tuning(adapters) if adapters is not None else None
    return fill(
        "catalogue.html.jinja",
        lineage,
        stamp,
        links=links,
        benchmark=str(results.rows[0]["benchmark"]),
        encoder=str(results.rows[0]["encoder"]),
        headline=headline(results),
        results=results,
        split_notes=SPLITS,
        breakdowns=BREAKDOWNS,
        benchmark_plot=plots.benchmark_plot(results),
        gallery=gallery(lineage, QUERIES),
        depth=DEPTH,
        triplets=triplets,
        samples=samples(lineage, triplets, TRIPLETS),
        writings=_writings(lineage, triplets),
        tuning=tuned,
        tuning_plot=plots.curve_plot({"loss": tuned.loss}, "loss of LoRA")
        if tuned is not None and tuned.loss
        else None,
        combiner_config=combiners.config,
        combiner_plot=plots.curve_plot(training_curves(combiners), "loss of the Combiner"),
    )


def fill(template: str, lineage: Lineage, stamp: str, **content: Any) -> str:
    """A template with its content and, as on every page, the lineage of what it is about."""
    root = lineage.root
    return (
        _environment()
        .get_template(template)
        .render(
            stamp=stamp,
            key=root.key,
            created=root.created_at,
            lineage=lineage,
            numbers={d.name: number for number, d in enumerate(lineage.datasets, 1)},
            diagram=_diagram(lineage),
            libraries=_libraries(lineage),
            **content,
        )
    )


def _writings(lineage: Lineage, triplets: Dataset) -> list[Writing]:
    """The stages that wrote triplets, the seeds' first."""
    seeds = lineage.find("triplets", stage="seed")
    datasets = [d for d in (seeds, triplets) if d is not None]
    found = [writing(lineage, d) for d in {d.name: d for d in datasets}.values()]
    return [w for w in found if w is not None]


def _diagram(lineage: Lineage) -> diagram.Diagram:
    """Everything that leads to the root; rejects lead nowhere."""
    drawn = [d for d in lineage.datasets if d.table != "rejects"]
    return diagram.draw({d.name: [i.name for i in lineage.inputs(d)] for d in drawn})


def _libraries(lineage: Lineage) -> dict[str, str]:
    """Version of each library; more than one where datasets were made with different ones."""
    versions: dict[str, dict[str, None]] = {}
    for dataset in lineage.datasets:
        for name, version in dataset.manifest.versions.items():
            versions.setdefault(name, {})[version] = None
    return {name: ", ".join(found) for name, found in versions.items()}


def _environment() -> jinja2.Environment:
    environment = templates()
    environment.filters |= {
        "picture": data_uri, "svg": svg_uri, "label": label, "count": _count, "seconds": _seconds,
        "usd": _usd, "day": _day, "moment": _moment, "settings": _settings,
    }  # fmt: skip
    environment.globals["box"] = diagram.BOX
    return environment


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _seconds(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f}\u00a0s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}\u00a0min {rest:02d}\u00a0s"


def _usd(amount: float) -> str:
    return f"${amount:,.2f}" if amount == 0 or amount >= 1 else f"${amount:.4f}"


def _day(moment: datetime) -> str:
    return moment.strftime("%d %B %Y, %H:%M UTC").lstrip("0")


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _settings(config: Mapping[str, Any]) -> str:
    return json.dumps(config, indent=2, ensure_ascii=False)
