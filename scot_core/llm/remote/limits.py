"""Limits of an endpoint: money, requests and tokens per minute, and how long a server asks to be left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from aiolimiter import AsyncLimiter

_BURST_S: Final = 2.0  # of tokens: what may be sent at once after a pause


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


class TokenBucket:
    """Tokens per minute, spread evenly: bursts last two seconds at most.

    The bucket leaks at the allowed rate. What a request may use is poured in before it is sent, and what it
    did not use is taken out again when its reply says so. A request larger than the bucket waits until it is
    empty, so nothing waits for ever.
    """

    def __init__(self, tokens_per_minute: int, clock: Callable[[], float] | None = None) -> None:
        self._rate = tokens_per_minute / 60
        self._size = self._rate * _BURST_S
        self._level = 0.0
        self._clock = clock or asyncio.get_running_loop().time
        self._at = self._clock()
        self._first_come = asyncio.Lock()  # a large request must not be overtaken for ever by small ones
        self._given_back = asyncio.Event()

    def wait_s(self, tokens: int) -> float:
        """Seconds until `tokens` fit."""
        self._leak()
        return max(0.0, self._level - max(0.0, self._size - tokens)) / self._rate

    async def acquire(self, tokens: int) -> None:
        """Wait until `tokens` fit, and pour them in."""
        async with self._first_come:
            while (wait := self.wait_s(tokens)) > 1e-9:
                self._given_back.clear()
                try:
                    await asyncio.wait_for(self._given_back.wait(), wait)
                except TimeoutError:
                    continue
            self._level += tokens

    def give_back(self, tokens: int) -> None:
        """Take out what was poured in and not used; a negative number pours in what was used beyond it."""
        self._leak()
        self._level = max(0.0, self._level - tokens)
        self._given_back.set()

    def _leak(self) -> None:
        now = self._clock()
        self._level = max(0.0, self._level - (now - self._at) * self._rate)
        self._at = now


class Pace:
    """Requests and tokens per minute of one endpoint, either of which may be unlimited."""

    def __init__(self, requests_per_minute: int | None, tokens_per_minute: int | None) -> None:
        self._requests = _requests(requests_per_minute)
        self._tokens = None if tokens_per_minute is None else TokenBucket(tokens_per_minute)

    async def acquire(self, tokens: int) -> None:
        """Wait until a request of up to `tokens` (prompt and reply) may be sent."""
        if self._tokens is not None:
            await self._tokens.acquire(tokens)
        if self._requests is not None:
            await self._requests.acquire()

    def correct(self, set_aside: int, used: int) -> None:
        """A reply says how many tokens it took. Without one, what was set aside counts as used."""
        if self._tokens is not None:
            self._tokens.give_back(set_aside - used)


def _requests(per_minute: int | None) -> AsyncLimiter | None:
    """A limiter that spreads requests evenly: bursts last a second at most."""
    if per_minute is None:
        return None
    burst = max(1.0, per_minute / 60)
    return AsyncLimiter(burst, burst * 60 / per_minute)


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
    except (ValueError, OverflowError):
        return None
    date = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
