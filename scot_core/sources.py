"""What Scot knows of a source besides its captions: a drawn one has a grammar that tells right edits from wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

Judge = Callable[[str, str, str], str]
"""caption, modification, modified caption -> a verdict, `RIGHT` or what is wrong in a word or two."""

RIGHT: Final = "right"
CATALOGUE: Final = "catalogue"


def judge_of(source: str) -> Judge | None:
    """The judge of a source's edits, where there is one."""
    if source != CATALOGUE:
        return None
    from scot_core.catalogue.grammar import judge

    return judge
