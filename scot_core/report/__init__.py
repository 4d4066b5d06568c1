"""The report: one self-contained HTML file about the newest benchmark of a lake and all it was made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from scot_core.errors import LakeError
from scot_core.lake import Dataset, Lake

REPORT_VERSION = 3  # another number renders reports anew that are in the lake already
LATEST = "report.html"
BESIDE = {"Methods": "methods.html", "Studies": "studies.html"}
"""Pages of a lake's own that the report links to, where they are."""

__all__ = ["write_report"]


def write_report(lake: Lake) -> str:
    """Write `reports/<key>.html` for the newest dataset of `benchmarks`, and a copy as `report.html`.

    Returns the full path (or URL) of the first. A report that is there already, for the same rows, with links to the
    same pages and of this version, is left as it is and nothing heavy is loaded. Raises LakeError where the lake
    holds no benchmark.
    """
    measured = [dataset for dataset in lake.table("benchmarks").matching() if dataset.rows]  # hidden targets: none
    if not measured:
        raise LakeError(f"{lake.url} holds no benchmark to report on: run `scot run` first")
    newest = measured[-1]
    links = {title: f"../{page}" for title, page in BESIDE.items() if lake.storage.exists(page)}
    name = f"reports/{newest.key}.html"
    stamp = " and ".join([f"scot report {REPORT_VERSION} of {newest.digest}", *links])
    page = lake.storage.read(name) if lake.storage.exists(name) else b""
    if f'"{stamp}"'.encode() not in page:
        page = _renderer(newest)(lake, newest, stamp, links).encode()
        lake.storage.write(name, page)
    copy = page.replace(b'href="../', b'href="')
    if not lake.storage.exists(LATEST) or lake.storage.read(LATEST) != copy:
        lake.storage.write(LATEST, copy)
    return f"{lake.url}/{name}"


def _renderer(measured: Dataset) -> Callable[[Lake, Dataset, str, Mapping[str, str]], str]:
    # torch, matplotlib and jinja2 load only where there is work
    from scot_core.report import page, published

    return published.render if measured.config.get("name") in published.TITLES else page.render
