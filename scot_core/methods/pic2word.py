"""Pic2Word (arXiv 2302.03084): φ contrasts `a photo of $` with the image; a query is `a photo of $ , {text}`, as that
project's evaluation writes it (with "and" between FashionIQ's two captions; here in both orders, as for all methods).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scot_core.methods.spec import Method
from scot_core.methods.words import by_phi, inverters

if TYPE_CHECKING:  # loads torch
    from scot_core.searle import Sentence


def ask(modification: str) -> Sentence:
    from scot_core.searle import Sentence

    return Sentence("a photo of ", f" , {modification}")


METHODS = (
    Method(
        "pic2word", "a photo of φ(image) , {text}; φ contrasted with the image", "arXiv 2302.03084",
        by_phi("pic2word", ask), needs=(inverters("pic2word"),), words=True,
    ),
)  # fmt: skip
