"""What a command chooses for captions of one's own, says before any work, and refuses; imports what that takes late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from scot.chosen import Chosen, Part
from scot.terminal import say
from scot_core.errors import ConfigError

if TYPE_CHECKING:
    from scot_core.config import Pipeline
    from scot_core.lake import Lake


def choose(captions: str | None, given: Sequence[str], llm: str | None) -> Chosen:
    """Settings over a profile: those that are given, and for captions of one's own the others that they need."""
    if captions is None:
        return Chosen(tuple(given))
    from scot.own import of_captions

    return of_captions(captions, given, llm)


def require_fit(chosen: Chosen, place: Lake, pipeline: Pipeline, to: Console, anyway: Console | None) -> Sequence[str]:
    """What is known about captions that are not drawn, said `to` somebody; returns the settings that they cut.

    Raises ConfigError where something does not fit them, or says so `anyway` and goes on.
    """
    if pipeline.captions.is_drawn:
        return ()
    from scot.own import check

    show_parts(chosen.parts, to)
    checked = check(place, pipeline)
    show_parts(checked.parts, to)
    if checked.faults:
        if anyway is None:
            raise ConfigError(f"{'; '.join(checked.faults)}. To go on all the same, `scot run --anyway` first")
        for fault in checked.faults:
            say(anyway, ("going on anyway: ", "yellow"), fault)
    return checked.overrides


def show_parts(parts: Sequence[Part], to: Console) -> None:
    for part in parts:
        say(to, f"  {part.name:<9} ", (part.choice, "bold"), f"  {part.why}")
