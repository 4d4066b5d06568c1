"""Limits of an endpoint: money, requests per minute, and how long a server asks to be left alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from aiolimiter import AsyncLimiter


class Budget:
    """Money as a hard stop: what requests in flight may cost is set aside before they start."""

    def __init__(self, max_usd: float | None, spent_usd: float) -> None:
        self.max_usd = max_usd
        self.spent_usd = spent_usd
        self._set_aside = 0.0
        self._in_flight = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is set aside, so that nothing can come back."""
        return self._in_flight == 0

    def reserve(self, usd: float) -> bool:
        """Set aside what a request may cost; False where there is not enough left."""
        if self.max_usd is not None and usd > 0 and self.spent_usd + self._set_aside + usd > self.max_usd:
            return False
        self._set_aside += usd
        self._in_flight += 1
        return True

    def settle(self, reserved_usd: float, usd: float) -> None:
        """Replace what was set aside for a request by what it cost."""
        self._set_aside -= reserved_usd
        self._in_flight -= 1
        self.spent_usd += usd


def pace(requests_per_minute: int | None) -> AsyncLimiter | None:
    """A limiter that spreads requests evenly: bursts last a second at most."""
    if requests_per_minute is None:
        return None
    burst = max(1.0, requests_per_minute / 60)
    return AsyncLimiter(burst, burst * 60 / requests_per_minute)


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds a server asks to wait, None where it does not say.

    Reads `retry-after-ms`, and `Retry-After` as seconds or as an HTTP date (RFC 9110, 10.2.3); a date in the
    past is 0.
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        try:
            return max(0.0, float(value) * unit)
        except ValueError:
            continue
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    date = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
