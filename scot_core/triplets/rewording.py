"""A request in other words, for training: nobody knows how people will put theirs."""

from __future__ import annotations

import random
from hashlib import blake2b
from typing import Final

_FRAMES: Final = (
    *("same but {}", "i want it {}", "now {}", "like this, {}", "just {}", "only change: {}", "show me {}"),
    "find one like it: {}",
)


def reworded(modification: str, count: int) -> list[str]:
    """`count` other ways to put a request, which follow from it; up to as many as there are they all differ.

    They know nothing of what is asked, so they are for any data in English.
    """
    rng = random.Random(blake2b(modification.encode(), digest_size=8).digest())
    frames = [frame for _ in range(0, count, len(_FRAMES)) for frame in rng.sample(_FRAMES, len(_FRAMES))]
    return [frame.format(modification) for frame in frames[:count]]
