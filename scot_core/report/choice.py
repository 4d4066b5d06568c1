"""Choosing examples without choosing them: an order that depends on nothing but the ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from scot_core.lake.fingerprint import digest

T = TypeVar("T")


def shuffled(items: Iterable[T], name: Callable[[T], str]) -> list[T]:
    """The items in the order of a digest of their names, whatever order they came in."""
    return sorted(items, key=lambda item: place(name(item)))


def place(name: str) -> str:
    """What items are ordered by."""
    return digest(name.encode())
