"""What this machine has for a run, and what is missing with how to get it."""

from __future__ import annotations

import os
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import scot_core
from scot_core.benchmarks import SOURCES, load, missing_files
from scot_core.benchmarks.images import find_images
from scot_core.config import PUBLISHED
from scot_core.config.settings import settings
from scot_core.errors import ScotError
from scot_core.lake import Lake
from scot_core.llm.local.devices import gpus
from scot_core.paper import Variant

NEEDED_GB = 4.0  # its processes take 2.5 together, and others want some
PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "duckdb", "pyarrow", "openai", "prefect")
FOR_FLOWS = ("prefect",)  # only `scot run`, `scot benchmark` and the deployments need these


class Finding(NamedTuple):
    """One thing looked at: whether it is as a run needs it (None: only some runs do), and what was found."""

    what: str
    ok: bool | None
    found: str


def examine(lake_url: str) -> list[Finding]:
    """Every finding, problems included; raises nothing."""
    return [
        *(_package(name) for name in PACKAGES),
        _device(),
        _memory(),
        _disk(lake_url),
        _weights("encoder"),
        _weights("encoder-whole"),
        _weights("falcon"),
        _lake(lake_url),
        _key(),
        _server(),
        *(benchmark_data(name) for name in PUBLISHED),
    ]


def _package(name: str) -> Finding:
    try:
        return Finding(name, True, version(name))
    except PackageNotFoundError:
        return Finding(name, None if name in FOR_FLOWS else False, f"missing: pip install {name}")


def _device() -> Finding:
    found = gpus()
    if not found:
        return Finding("device", True, f"CPU, {os.cpu_count()} cores (profile catalogue is made for that)")
    return Finding("device", True, f"{len(found)} x {found[0].name}, {found[0].gigabytes:.0f} GB")


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return Finding("memory", total >= NEEDED_GB, f"{total:.1f} GB (profile catalogue needs {NEEDED_GB:.0f})")


def _disk(lake_url: str) -> Finding:
    if "://" in lake_url:
        return Finding("disk", True, "the lake is remote")
    place = Path(lake_url).resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 1e9
    return Finding("disk", free >= 1, f"{free:.0f} GB free at {place}")


def _weights(name: str) -> Finding:
    folder = Path(scot_core.__file__).parent / "catalogue" / "weights" / name
    file = folder / "model.safetensors"
    if not file.exists():
        return Finding(
            f"weights: {name}", False, f"missing at {folder}: python -m pretraining.{name.partition('-')[0]} --help"
        )
    return Finding(f"weights: {name}", True, f"{file.stat().st_size / 1e6:.1f} MB")


def _lake(url: str) -> Finding:
    try:
        lake = Lake(url)
        lake.check_writable()
        datasets, damaged = lake.read()
        if damaged:
            return Finding("lake", False, str(damaged[0]))
        return Finding("lake", True, f"{lake.url}, {len(datasets)} datasets")
    except ScotError as error:
        return Finding("lake", False, str(error))


def _key() -> Finding:
    found = "set" if os.environ.get("SCOT_API_KEY") else "not set (only a real endpoint needs SCOT_API_KEY)"
    return Finding("API key", True, found)


def _server() -> Finding:
    url = os.environ.get("PREFECT_API_URL")
    return Finding("Prefect server", True, url or "none configured: `scot run` starts one for the run")


def benchmark_data(name: str) -> Finding:
    """Annotations and images of a published benchmark, where to get what is missing and where it belongs."""
    variant = Variant.parse(name)
    of, split = variant.benchmark, variant.split
    what, root, source = f"data: {name}", Path(settings().data) / of, SOURCES[of]
    absent = missing_files(of, root, split)
    if absent:
        return Finding(what, None, f"missing under {root}: {', '.join(absent)}; annotations from {source.annotations}")
    try:
        benchmark = load(of, root, split=split)
    except ScotError as error:
        return Finding(what, False, str(error))
    files = find_images(benchmark, root)
    asked = f"{len(benchmark.queries):,} queries"
    if files.missing:
        lost, all_ = len(files.missing), len(benchmark.image_ids)
        where = f"{root}/{source.layout[-1]}"
        return Finding(what, None, f"{asked}; {lost:,} of {all_:,} images are missing: {source.images}, as {where}")
    return Finding(what, True, f"{asked}, {len(files.paths):,} images")
