"""Frozen image-text encoders behind one protocol: `load("catalogue").embed_texts(["a red mug"])`."""

from __future__ import annotations

from collections.abc import Callable

from scot_core.encoders.spec import Encoder, EncoderSpec, Vectors
from scot_core.errors import ConfigError

__all__ = ["Encoder", "EncoderSpec", "Vectors", "load", "names"]


def _catalogue() -> Encoder:
    from scot_core.encoders.catalogue import SHIPPED, CatalogueEncoder  # torch loads only when asked for

    return CatalogueEncoder.from_directory(SHIPPED)


_LOADERS: dict[str, Callable[[], Encoder]] = {"catalogue": _catalogue}


def names() -> tuple[str, ...]:
    """The names `load` knows."""
    return tuple(_LOADERS)


def load(name: str) -> Encoder:
    """The encoder called `name`, frozen and ready.

    Raises `ConfigError` for a name nobody knows and `ModelError` for weights that are missing or damaged.
    """
    if name not in _LOADERS:
        raise ConfigError(f"no encoder is called {name!r}; there is {', '.join(_LOADERS)}")
    return _LOADERS[name]()
