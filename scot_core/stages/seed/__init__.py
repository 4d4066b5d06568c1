"""Stage seed: triplets from a strong model behind an endpoint (§4.2: 4,000 from GPT-4)."""

from __future__ import annotations

from pydantic import SecretStr

from scot_core.config import SeedConfig
from scot_core.lake import Dataset, Lake
from scot_core.stages.gates import require_kept
from scot_core.stages.replies.read import ReadReplies
from scot_core.stages.seed.ask import AskForSeeds, require_whole
from scot_core.stages.seed.batch import batch_rounds
from scot_core.stages.step import Run


def seed(run: Run, lake: Lake, config: SeedConfig, captions: Dataset, api_key: SecretStr | None = None) -> Dataset:
    """Returns the seed triplets; `api_key` is that of the environment where none is given.

    Raises BudgetReached where `max_usd` ended before the captions did, unless the configuration accepts that; what
    was paid for is committed all the same; and GateError where too few of the replies are triplets.
    """
    if config.mode == "batch":
        for work in batch_rounds(lake, config, captions, api_key):
            run(work)
    replies = run(AskForSeeds(lake, config, captions, api_key))["replies"]
    triplets = run(ReadReplies(lake, "seed", "seed", "json", captions, [replies], config.filter))["triplets"]
    require_whole(replies, triplets, config)
    advice = "whoever is asked does not do what seed.prompt wants; try another model (seed.endpoint.model)"
    return require_kept(lake, triplets, config.min_kept, "seed.min_kept", what="replies", advice=advice)
