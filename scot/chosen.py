"""What a run was chosen to be, part by part; loads nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a run: what it will be, and what is to be known about it."""

    name: str
    choice: str
    why: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """Settings over a profile, what is said about them before any work, and what does not fit the captions."""

    overrides: tuple[str, ...]
    parts: tuple[Part, ...] = ()
    faults: tuple[str, ...] = ()
    pairs: int | None = None
    """Captioned images that were counted, at least."""
