"""How a fitted encoder is named; loads no torch."""

from __future__ import annotations

from typing import Final

from scot_core.lake import Dataset, Lake

TO_FIT: Final = "fitted"  # the encoder that stage fit makes of these captions
FITTED: Final = "fitted:"  # and a key: one that it made


def fitted_by(lake: Lake, encoder: str) -> Dataset | None:
    """The dataset of table `encoders` that an encoder's name says; None for other encoders, and where it is gone."""
    return lake.table("encoders").find(encoder.removeprefix(FITTED)) if encoder.startswith(FITTED) else None
