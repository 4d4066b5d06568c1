"""Batches that fit the device's memory, found by trying: a batch that does not fit is halved, nothing is lost."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from scot_core.encoders.spec import Vectors
from scot_core.errors import ModelError

logger = logging.getLogger(__name__)


class Fitting:
    """Runs a function over slices of rows; what was too much once is not tried again."""

    def __init__(self, what: str, most: int) -> None:
        """`what` names the rows in the error; `most` is the number of them that is tried first."""
        self._what, self.most = what, most

    def fill(self, out: Vectors, run: Callable[[slice], Vectors]) -> Vectors:
        """Puts `run(rows)` into `out[rows]` for slices that cover `out`, and returns `out`.

        Raises `ModelError` where a single row is too much.
        """
        start = 0
        while start < len(out):
            rows = slice(start, min(start + self.most, len(out)))
            if self._fits(out, rows, run):
                start = rows.stop
            else:
                self._halve(rows.stop - rows.start)
        return out

    @staticmethod
    def _fits(out: Vectors, rows: slice, run: Callable[[slice], Vectors]) -> bool:
        try:
            out[rows] = run(rows)
        except torch.OutOfMemoryError:
            return False  # the error and the tensors its traceback holds end here, before the next try
        return True

    def _halve(self, tried: int) -> None:
        if tried == 1:
            raise ModelError(
                f"not even one {self._what} fits into the device's memory: free it, choose embed.precision=bfloat16 "
                "or another device"
            )
        self.most = tried // 2
        logger.warning("%d %ss at once do not fit into the device's memory: on with %d", tried, self._what, self.most)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
