"""Where the pages' templates lie and how they are read."""

from __future__ import annotations

from pathlib import Path

import jinja2


def templates() -> jinja2.Environment:
    """Escapes what it is given, and refuses a name that nothing gives."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
