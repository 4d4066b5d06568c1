"""SEARLE (arXiv 2303.15247): φ gives the pseudo-token of a reference image, which stands in `a photo of $ that …`."""

from __future__ import annotations

from scot_core.methods.spec import Method
from scot_core.methods.words import by_phi, inverters

METHODS = (
    Method(
        "searle", "a photo of φ(image) that {text}; φ distilled from inverted images", "arXiv 2303.15247",
        by_phi("searle"), needs=(inverters("searle"),), words=True,
    ),
)  # fmt: skip
