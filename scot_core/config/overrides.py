"""Settings given as text, `stage.key=value`, over a profile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scot_core.config.base import validated
from scot_core.config.stages import Pipeline
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
    return validated(Pipeline, content)


def _set(content: dict[str, Any], path: list[str], value: str, override: str) -> None:
    *folders, leaf = path
    for depth, folder in enumerate(folders):
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
