"""Every way of composing a query, under one roof: `method("searle").ready(known).runs["seed-0"](queries)`.

Each file here that has `METHODS` is found by that alone. A method is given what a lake knows (`spec.Known`), says what
it needs of it, and differs from the others in nothing but its query vectors.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Final

from scot_core.errors import ConfigError
from scot_core.methods.spec import Compose, Examples, Known, Method, Need, Queries, Ready

__all__ = ["METHODS", "Compose", "Examples", "Known", "Method", "Need", "Queries", "Ready", "find_methods", "method"]


def find_methods() -> dict[str, Method]:
    """The methods of every file here, by name, in the order of tables."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    found = [one for module in modules for one in getattr(module, "METHODS", ())]
    return {one.name: one for one in sorted(found, key=_learns)}


def _learns(one: Method) -> int:
    """Nothing, a number that is chosen on triplets, or more: the order of tables."""
    return len({need.table for need in one.needs}) + sum(need.table != "triplets" for need in one.needs)


METHODS: Final = find_methods()


def method(name: str) -> Method:
    """A method by its name. Raises ConfigError naming the methods there are."""
    if name not in METHODS:
        raise ConfigError(f"there is no method {name!r}; the methods are {', '.join(METHODS)}")
    return METHODS[name]
