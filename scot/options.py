"""What the commands share: options, the two consoles, and the lake."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Annotated

from cyclopts import Parameter

from scot.terminal import console
from scot_core.config.settings import settings
from scot_core.errors import ConfigError
from scot_core.lake import Lake

LakeOption = Annotated[
    str | None, Parameter(name="--lake", help="Path or URL of the lake; default SCOT_LAKE or ./lake.")
]
CaptionsOption = Annotated[
    str | None,
    Parameter(
        name="--captions",
        help="Captioned pictures of one's own: a table (CSV, JSON lines, Parquet) of image and caption, a folder of "
        "such tables, or a URL. What is not set is chosen by what is at hand, and said.",
    ),
]
JsonOption = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON, for machines.")]

out = console(width=None if sys.stdout.isatty() else 140)
err = console(stderr=True)


def lake_at(url: str | None, *, to_write: bool = False) -> Lake:
    """The lake at a URL, else at SCOT_LAKE. Raises LakeError where it cannot be opened, or written."""
    lake = Lake(url or settings().lake)
    if to_write:
        lake.check_writable()
    return lake


def require_prefect() -> None:
    """Raises ConfigError where the library is installed without what runs stages."""
    if find_spec("prefect") is None:
        raise ConfigError("running stages needs Prefect: install Scot with its extra, scot[flows]")
