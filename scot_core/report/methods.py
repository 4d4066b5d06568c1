"""The page of all methods: every metric and split, paired differences, what each costs and what is missing."""

from __future__ import annotations

from collections.abc import Sequence

from scot_core.lake import Lake
from scot_core.methods import METHODS
from scot_core.report.templates import templates
from scot_core.stages.methods.table import Comparison

PAGE = "methods.html"


def write_methods(lake: Lake, made: Sequence[Comparison]) -> str:
    """Write the page, anew; returns its full path (or URL)."""
    page = templates().get_template("methods.html.jinja").render(comparisons=made, methods=METHODS)
    lake.storage.write(PAGE, page.encode())
    return f"{lake.url}/{PAGE}"
