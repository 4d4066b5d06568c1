"""The page of all studies that were run, and their tables in Markdown for docs/evidence.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from scot_core.lake import Lake
from scot_core.report.grids import grid_plot
from scot_core.report.images import data_uri, svg_uri
from scot_core.report.results import broken_down, main_splits
from scot_core.report.templates import templates
from scot_core.report.weighed import WEIGHTS, at_weights
from scot_core.studies.findings import Findings, Row, kept
from scot_core.studies.spec import TEXT_WEIGHT

PAGE = "studies.html"


def write_studies(lake: Lake) -> str:
    """Write the page, anew; returns its full path (or URL)."""
    found = kept(lake)
    weighed = at_weights(lake) if any(one.metric == TEXT_WEIGHT for one in found) else None
    pages = templates()
    pages.filters["picture"] = data_uri
    page = pages.get_template("studies.html.jinja").render(
        studies=[(one, svg_uri(grid_plot(one)), splits_of(one)) for one in found], weighed=weighed, weights=WEIGHTS
    )
    lake.storage.write(PAGE, page.encode())
    return f"{lake.url}/{PAGE}"


def splits_of(found: Findings) -> list[str]:
    """Those that stand for themselves, and those of the plot's axis or other wordings of the same queries; none of so
    few queries that it tells nothing."""
    splits = [*main_splits(found.queries), *broken_down(found.queries).get(found.by or "wording", ())]
    return [split for split in splits if found.tells(split)]


def markdown(found: Findings) -> str:
    """Question, sentence and table, with where and when they were made."""
    splits = splits_of(found)
    lines = [
        f"### {found.study}: {found.question}", "",
        f"From {found.place}; benchmark {found.benchmark}, {found.metric} in percent with 95 % intervals; the last "
        f"column is the paired difference over all queries and seeds to {found.against}. {found.note}".rstrip(), "",
        f"**{found.sentence}**", "",
        f"| setting | seeds | {' | '.join(splits)} | against {found.against} |",
        f"| --- | ---: |{' ---: |' * (len(splits) + 1)}",
    ]  # fmt: skip
    lines += [f"| {' | '.join([name, *_columns(row, splits)])} |" for name, row in found.listed]
    lines += ["", *(f"Left out: {name} ({_in_short(name, why)})." for name, why in found.left_out)]
    words = "".join(f" --set {_shown(override)}" for override in found.overrides)
    lines.append(f"`scot study {found.study} --profile {found.profile}{words}`, {found.at:%Y-%m-%d}, {found.machine}.")
    return "\n".join(lines)


def _in_short(name: str, why: str) -> str:
    """Why a cell is left out, without the command that helps, which names folders of this machine."""
    return why.removeprefix(f"{name}: ").partition(";")[0].rstrip(".")


def _shown(override: str) -> str:
    """A setting as the page shows it: of where somebody's captions lie the name alone."""
    key, _, value = override.partition("=")
    return f"{key}={Path(value).name}" if key == "captions.path" else override


def _columns(row: Row, splits: Sequence[str]) -> list[str]:
    its = [str(row.values[split]) for split in splits]
    return [str(row.runs), *its, f"**{row.difference}**" if row.decided else row.difference]


def put_into(text: str, found: Findings) -> str:
    """A Markdown text with the study's part put in, in place of what it was, or at the end."""
    begin, end = (f"<!-- {mark}: scot study {found.study}, {found.benchmark} -->" for mark in ("begin", "end"))
    part = f"{begin}\n{markdown(found)}\n{end}"
    there = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.S)
    if there.search(text):
        return there.sub(lambda _: part, text, count=1)
    return f"{text.rstrip()}\n\n{part}\n"
