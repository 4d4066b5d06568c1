"""LinCIR (arXiv 2312.01998): φ learned from captions alone; a query is SEARLE's sentence, as in that project's code."""

from __future__ import annotations

from scot_core.methods.spec import Method
from scot_core.methods.words import by_phi, inverters

METHODS = (
    Method(
        "lincir", "a photo of φ(image) that {text}; φ learned from captions alone", "arXiv 2312.01998",
        by_phi("lincir"), needs=(inverters("lincir"),), words=True,
    ),
)  # fmt: skip
