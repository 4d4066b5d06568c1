"""Settings given as text, `stage.key=value`, over a profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from scot_core.config.base import Config, validated
from scot_core.config.pipeline import OPTIONAL, Pipeline
from scot_core.errors import ConfigError


def with_overrides(pipeline: Pipeline, overrides: Sequence[str]) -> Pipeline:
    """Apply `stage.key=value` settings; the items of a list stand between commas.

    Raises ConfigError for an unknown stage or key, or a value that does not fit.
    """
    content = pipeline.model_dump(mode="json")
    for override in overrides:
        path, sign, value = override.partition("=")
        if not sign:
            raise ConfigError(f"{override!r} is not of the form stage.key=value, such as train.steps=300")
        _set(content, path.strip().split("."), value, override)
    return validated(Pipeline, content).asking_for()


@dataclass(frozen=True, slots=True)
class Setting:
    """A key that `with_overrides` takes: `default` is its value where no profile says otherwise."""

    key: str
    type: str
    default: str
    help: str


def listed(config: Config | None = None, prefix: str = "") -> list[Setting]:
    """Every setting there is, stage after stage, with the sentence that stands under its field."""
    config = Pipeline().asking_for("distill") if config is None else config
    shown = config.model_dump(mode="json")
    found: list[Setting] = []
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, Config):
            found += listed(value, f"{prefix}{name}.")
        else:
            told = " ".join((field.description or "").split())
            found.append(Setting(prefix + name, _type(field.annotation), _shown(shown[name]), told))
    return found


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else "null" if value is None else str(value)


def _type(kind: Any) -> str:
    """A type as people write it: `int`, `catalogue | folder`, `str | null`."""
    if kind is type(None):
        return "null"
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin is Annotated:
        return _type(arguments[0])
    if origin in (Union, UnionType):
        return " | ".join(map(_type, arguments))
    if origin is tuple:
        return f"{_type(arguments[0])}, …"
    return str(kind.__name__)


def _set(content: dict[str, Any], path: list[str], value: str, override: str) -> None:
    *folders, leaf = path
    for depth, folder in enumerate(folders):
        if not depth and content.get(folder) is None and folder in OPTIONAL:
            content[folder] = OPTIONAL[folder]().model_dump(mode="json")  # a setting asks for the stage
        if not isinstance(content.get(folder), dict):
            raise ConfigError(
                f"{override!r}: there is no {'.'.join(path[: depth + 1])!r}; there is: {', '.join(content)}"
            )
        content = content[folder]
    if leaf not in content or not folders or isinstance(content[leaf], dict):
        raise ConfigError(f"{override!r}: there is no setting {'.'.join(path)!r}; there is: {', '.join(content)}")
    content[leaf] = _items(value) if isinstance(content[leaf], list) else _plain(value)


def _items(value: str) -> list[str]:
    """What stands between the commas; the models say what fits."""
    return [item.strip() for item in value.strip().strip("[]").split(",") if item.strip()]


def _plain(value: str) -> str | None:
    """Null as such; everything else is text, from which the models make numbers."""
    return None if value in ("null", "none", "None") else value
