"""Whether an encoder's weights are on this machine; nothing is loaded, and no hub is asked."""

from __future__ import annotations

from scot_core.config import EmbedConfig, FitConfig
from scot_core.encoders import spec_of, weights
from scot_core.encoders.fitted_names import TO_FIT
from scot_core.encoders.rows import ROWS
from scot_core.errors import ModelError, ScotError


def encoder_missing(embed: EmbedConfig) -> str | None:
    """What an encoder lacks on this machine, and the command that gets it; None where it is here."""
    if embed.encoder.startswith(TO_FIT):  # of the lake; its towers are asked for when they are needed
        return None
    try:
        spec_of(embed.encoder, revision=embed.revision, pooling=embed.pooling, precision=embed.precision)
        if embed.is_shipped:
            return None
        row = ROWS.get(embed.encoder)
        if row is None:
            return None
        place = weights.place(embed.encoder, row.hub, row.commit, embed.revision)
    except ScotError as error:
        return str(error)
    if place.folder is not None or in_cache(place.hub, place.revision):
        return None
    return f"encoder {embed.encoder} is not on this machine: `{place.command}`"


def towers_missing(fit: FitConfig) -> str | None:
    """What an encoder that is to be fitted lacks on this machine, and how to get it; None where nothing."""
    if fit.is_from_nothing:
        return None
    from scot_core.encoders.halves import folders  # loads torch

    absent = [name for name in (fit.image_tower, fit.text_tower) if not folders.is_here(name)]
    if not absent:
        return None
    others = [name for name in absent if name not in folders.PACKAGED]
    how = f"put a model of transformers into {weights.own_folder(others[0])}" if others else "`make towers`"
    return f"the towers {' and '.join(absent)} are not on this machine: {how}"


def require_encoder(embed: EmbedConfig) -> None:
    """Raises ModelError, at once, where an encoder's weights are on no disk and no hub can be reached."""
    fault = encoder_missing(embed)
    if fault is not None and not weights.hub_is_reached():
        raise ModelError(f"{fault}, and no hub is reached from here; or take another (--set embed.encoder=…)")


def in_cache(hub: str, revision: str) -> bool:
    """True where the hub's cache on this machine has these weights' configuration, which is fetched with them."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(hub, "config.json", revision=revision), str)
