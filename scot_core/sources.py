"""What Scot knows of a source besides its captions: which edits are right, and what its benchmark holds out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
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


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What a source's benchmark holds out: no triplet may show it, whoever wrote it."""

    rule: str
    """Stands for what is held out, in keys."""
    shows: Callable[[str, str, str], bool]
    """caption, modification, modified caption -> whether they show it."""


@cache
def held_out_of(source: str) -> HeldOut | None:
    """What the benchmark of a source holds out, where it says so by a rule."""
    if source != CATALOGUE:
        return None
    from scot_core.catalogue.held_out import RULE, shows

    return HeldOut(RULE, shows)


def pairs_of(source: str) -> Callable[[str, str, str], set[str]] | None:
    """What names the compositions that a triplet of a source shows, where there is something that can."""
    if source != CATALOGUE:
        return None
    from scot_core.catalogue.held_out import pairs

    return pairs


def keyed(source: str) -> dict[str, str]:
    """What enters the key of triplets of a source: nothing where nothing is held out by rule."""
    held = held_out_of(source)
    return {} if held is None else {"held_out_rule": held.rule}
