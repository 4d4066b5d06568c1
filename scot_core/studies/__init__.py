"""The paper's studies as data: `study("loss").cells`. Each file here that has `STUDY` is found by that alone."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from scot_core.errors import ConfigError
from scot_core.studies.spec import Cell, Study

__all__ = ["STUDIES", "Cell", "Study", "StudyName", "study"]


def _found() -> dict[str, Study]:
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    found = [module.STUDY for module in modules if hasattr(module, "STUDY")]
    return {one.name: one for one in found}


STUDIES: Final[dict[str, Study]] = _found()


def study(name: str) -> Study:
    """A study by its name. Raises ConfigError naming the studies there are."""
    if name not in STUDIES:
        raise ConfigError(f"there is no study {name!r}; the studies are {', '.join(STUDIES)}")
    return STUDIES[name]


def _known(name: str) -> str:
    study(name)
    return name


StudyName = Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": list(STUDIES)})]
