"""Reading published annotation files, with errors that say which file, which entry and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scot_core.errors import DataError


def read_json(path: Path) -> Any:
    """The content of a JSON file. DataError where it is missing or damaged."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; `scot doctor` says where to get it and where it belongs") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error


class Annotation:
    """One object of an annotation list; every access checks presence and kind."""

    def __init__(self, path: Path, position: int | str, content: Any) -> None:
        self._where = f"{path} entry {position}"
        if not isinstance(content, Mapping):
            raise DataError(f"{self._where} is {type(content).__name__}, not an object")
        self._content = content

    def __contains__(self, key: str) -> bool:
        return key in self._content

    def text(self, key: str) -> str:
        return str(self._get(key, str))

    def image_id(self, key: str) -> str:
        """A string or an integer, as a string."""
        return str(self._get(key, str, int))

    def image_ids(self, key: str) -> tuple[str, ...]:
        """A list of distinct strings or integers, as strings."""
        values = self._get(key, list)
        if not all(isinstance(value, str | int) for value in values):
            raise DataError(f"{self._where}: {key!r} must be a list of image ids")
        ids = tuple(str(value) for value in values)
        if len(set(ids)) < len(ids):
            raise DataError(f"{self._where}: {key!r} names an image more than once")
        return ids

    def texts(self, key: str) -> tuple[str, ...]:
        values = self._get(key, list)
        if not values or not all(isinstance(value, str) for value in values):
            raise DataError(f"{self._where}: {key!r} must be a list of texts")
        return tuple(values)

    def object(self, key: str) -> Annotation:
        return Annotation(Path(self._where), key, self._get(key, Mapping))

    def fail(self, message: str) -> DataError:
        return DataError(f"{self._where}: {message}")

    def _get(self, key: str, *kinds: type) -> Any:
        if key not in self._content:
            raise DataError(f"{self._where} has no {key!r}")
        value = self._content[key]
        if not isinstance(value, kinds) or isinstance(value, bool):
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise DataError(f"{self._where}: {key!r} must be {expected}, not {type(value).__name__}")
        return value


def entries(path: Path) -> Iterator[Annotation]:
    """The objects of a JSON list."""
    content = read_json(path)
    if not isinstance(content, list):
        raise DataError(f"{path} must hold a list, not {type(content).__name__}")
    for position, item in enumerate(content):
        yield Annotation(path, position, item)


def id_list(path: Path) -> list[str]:
    """A JSON list of image ids."""
    content = read_json(path)
    if not isinstance(content, list) or not all(isinstance(item, str | int) for item in content):
        raise DataError(f"{path} must hold a list of image ids")
    return [str(item) for item in content]
