"""What models behind endpoints cost, in US dollars for a million tokens, as their vendor published it.

Vendors change prices: check before you pay. `usd_per_million_prompt`, `usd_per_million_completion` and
`batch_discount` of an endpoint's configuration take precedence over this table.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class Price(NamedTuple):
    """US dollars for a million tokens."""

    prompt: float
    completion: float


BATCH_DISCOUNT: Final = 0.5  # what a token costs through the Batch API, as a share of the table's price

# As published by OpenAI for its API in 2025, without cached prompts.
PRICES: Final[dict[str, Price]] = {
    "gpt-4o": Price(2.50, 10.00),
    "gpt-4o-2024-05-13": Price(5.00, 15.00),
    "gpt-4o-mini": Price(0.15, 0.60),
    "gpt-4.1": Price(2.00, 8.00),
    "gpt-4.1-mini": Price(0.40, 1.60),
    "gpt-4.1-nano": Price(0.10, 0.40),
    "gpt-4-turbo": Price(10.00, 30.00),
    "gpt-4": Price(30.00, 60.00),
    "gpt-3.5-turbo": Price(0.50, 1.50),
    "catalogue-teacher-1": Price(0.0, 0.0),  # the loopback teacher
}

_SNAPSHOT: Final = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{4})\Z")  # gpt-4o-2024-08-06, gpt-4-0613


def price_of(model: str) -> Price | None:
    """The price of a model, or of the model that a dated name is a snapshot of; None where it is not known."""
    return PRICES.get(model) or PRICES.get(_SNAPSHOT.sub("", model))
