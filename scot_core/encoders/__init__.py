"""Frozen image-text encoders behind one protocol: `load("catalogue").embed_texts(["a red mug"])`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from scot_core.encoders.spec import Encoder, EncoderSpec, Precision, require_same
from scot_core.errors import ConfigError

if TYPE_CHECKING:
    from scot_core.lake import Lake

__all__ = ["Encoder", "EncoderSpec", "Precision", "load", "load_as", "names", "spec_of"]

# Which module knows which encoder; torch loads only when one is asked for.
_PRETRAINED: Final = "scot_core.encoders.pretrained"
_MODULES: Final = {
    "catalogue": "scot_core.encoders.catalogue",
    "catalogue-whole": "scot_core.encoders.catalogue",
    "clip-b32": _PRETRAINED,
    "clip-l14": _PRETRAINED,
    "blip": _PRETRAINED,
    "blip2": _PRETRAINED,
    "siglip2": _PRETRAINED,
    "lavis-blip2": "scot_core.encoders.lavis",
}
# Which knows its spec, without torch.
_ROWS: Final = "scot_core.encoders.rows"
_SPECS: Final = {
    "catalogue": "scot_core.encoders.catalogue_spec",
    "catalogue-whole": "scot_core.encoders.catalogue_spec",
    "fitted": "scot_core.encoders.fitted_spec",
} | {name: _ROWS for name, module in _MODULES.items() if module == _PRETRAINED}


def names() -> tuple[str, ...]:
    """The names `load` knows."""
    return tuple(_MODULES)


def load(
    name: str,
    *,
    revision: str | None = None,
    pooling: str | None = None,
    precision: Precision | None = None,
    device: str | None = None,
    lake: Lake | None = None,
) -> Encoder:
    """The encoder called `name`, frozen and ready.

    Args:
        revision: the weights it must have: a hub's commit, or the digest of a local folder. None takes a local
            folder as it is, or else the commit that the encoder's table pins.
        pooling: how several vectors of an image become one; None is the encoder's default.
        precision: of the vision tower; None is float32.
        device: "cpu", "cuda:0"; None takes the first CUDA device where there is one.
        lake: where the weights of `fitted:<key>` are.

    Raises:
        ConfigError: a name, pooling or precision that does not exist.
        ModelError: weights that are missing, damaged or not those of `revision`.
    """
    module, where = _module(name, lake)
    encoder: Encoder = module.load(
        name, revision=revision, pooling=pooling, precision=precision, device=device, **where
    )  # fmt: skip
    return encoder


def load_as(spec: EncoderSpec, what: str, lake: Lake | None = None) -> Encoder:
    """The encoder of a spec, which made `what`.

    Raises what `load` raises, and ModelError where what is here would give other vectors.
    """
    encoder = load(spec.name, revision=spec.revision, pooling=spec.pooling, precision=spec.precision, lake=lake)
    require_same(spec, encoder.spec, what)
    return encoder


def spec_of(
    name: str,
    *,
    revision: str | None = None,
    pooling: str | None = None,
    precision: Precision | None = None,
    lake: Lake | None = None,
) -> EncoderSpec:
    """The spec of what `load` would give, without loading or downloading weights. Raises what `load` raises."""
    module, where = _module(name, lake, _SPECS)
    spec: EncoderSpec = module.spec_of(name, revision=revision, pooling=pooling, precision=precision, **where)
    return spec


def _module(name: str, lake: Lake | None, others: Mapping[str, str] | None = None) -> tuple[Any, dict[str, Any]]:
    """The module that knows an encoder, one of `others` before its own, and what else it is told."""
    kind, sign, _ = name.partition(":")
    if kind == "fitted":
        return import_module((others or {}).get(kind, "scot_core.encoders.fitted")), {"lake": lake}
    if kind == "tower" and sign:
        return import_module("scot_core.encoders.halves"), {}
    if name not in _MODULES:
        raise ConfigError(
            f"no encoder is called {name!r}; there is {', '.join(_MODULES)}, fitted (to the captions themselves) and "
            "fitted:<key>, of table encoders"
        )
    return import_module((others or {}).get(name, _MODULES[name])), {}
