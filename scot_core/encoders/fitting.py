"""Batches that fit the device's memory, found by trying: a batch that does not fit is halved, nothing is lost."""

from __future__ import annotations

from collections.abc import Callable

from scot_core.memory import halved
from scot_core.vectors import Vectors


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
            asked = range(start, min(start + self.most, len(out)))
            vectors, fit = halved(
                lambda rows: run(slice(rows[0], rows[-1] + 1)), asked, self._what,
                advice="free it, choose embed.precision=bfloat16 or another device",
            )  # fmt: skip
            out[start : start + fit] = vectors
            start += fit
            if fit < len(asked):
                self.most = fit
        return out
