"""Stage seed: triplets from a strong model behind an endpoint (§4.2: 4,000 from GPT-4)."""

from __future__ import annotations

import logging
import math
from typing import Final

from pydantic import SecretStr

from scot_core.config import SeedConfig
from scot_core.lake import Dataset, Lake
from scot_core.stages.gates import require_kept
from scot_core.stages.replies.read import ReadReplies
from scot_core.stages.seed.ask import AskForSeeds, Loopback, require_whole
from scot_core.stages.seed.batch import batch_rounds
from scot_core.stages.seed.work import More
from scot_core.stages.step import Run

logger = logging.getLogger(__name__)

ROUNDS: Final = 5


def seed(run: Run, lake: Lake, config: SeedConfig, captions: Dataset, api_key: SecretStr | None = None) -> Dataset:
    """Returns the seed triplets; `api_key` is that of the environment where none is given.

    Where replies are rejected, as many captions more are asked about as should make up for them, until `count` triplets
    are kept, in a few rounds at most, or no caption is left.

    Raises BudgetReached where `max_usd` ended before the captions did, unless the configuration accepts that; what
    was paid for is committed all the same; and GateError where too few of the replies are triplets.
    """
    advice = "whoever is asked does not do what seed.prompt wants; try another model (seed.endpoint.model)"
    more: More | None = None
    with Loopback() as loopback:
        for _ in range(ROUNDS):
            if config.mode == "batch":
                for work in batch_rounds(lake, config, captions, api_key, more):
                    run(work)
            replies = run(AskForSeeds(lake, config, captions, api_key, more, loopback))["replies"]
            triplets = run(ReadReplies(lake, "seed", "seed", "json", captions, [replies], config.filter))["triplets"]
            require_whole(replies, triplets, config)
            require_kept(lake, triplets, config.min_kept, "seed.min_kept", what="replies", advice=advice)
            lacking, left = config.count - triplets.rows, captions.rows - replies.rows
            if lacking <= 0 or left == 0 or "answered" in replies.config:
                break
            more = More(replies.rows + min(left, math.ceil(lacking * replies.rows / triplets.rows)), replies)
    if lacking > 0:
        logger.warning("seed.count is %d, and %d of %d replies are triplets", config.count, triplets.rows, replies.rows)
    return triplets
