"""A device's memory: what is too much at once is halved until it fits, and what nobody needs is given back."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import nn

from scot_core.errors import ModelError

R = TypeVar("R")
T = TypeVar("T")

logger = logging.getLogger(__name__)


def let_go() -> None:
    """Give the memory of models that are no longer referred to back to the devices, before the next is loaded."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def release(model: nn.Module) -> None:
    """Give the memory of a model that nobody uses any more back to its device, at once.

    4-bit layers, and models with adapters, refer to themselves in circles, which Python looks for seldom.
    """
    for module in model.modules():
        module._parameters.clear()
        module._buffers.clear()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def halved(
    run: Callable[[Sequence[R]], T], rows: Sequence[R], what: str, *, advice: str = "use a larger device"
) -> tuple[T, int]:
    """`run` on all rows, or on the first half, quarter, ... of them that fits into the device's memory.

    Each halving is logged.

    Args:
        run: raises torch.OutOfMemoryError where these are too many rows.
        rows: at least one.
        what: names one row in the log and in the error.
        advice: what to do where a single row is too much.

    Returns:
        What `run` returned, and on how many rows.

    Raises:
        ModelError: not even one row fits.
    """
    while True:
        try:
            return run(rows), len(rows)
        except torch.OutOfMemoryError as error:
            if len(rows) == 1:
                raise ModelError(f"the device's memory does not hold one {what}: {advice}") from error
        # Outside of the handler, which holds on to the frames of the failed try, and so to what these hold.
        let_go()
        half = len(rows) // 2
        logger.warning("%d x %s at once do not fit into the device's memory: on with %d", len(rows), what, half)
        rows = rows[:half]
