"""`scot/seed`: seed triplets from a strong model behind an endpoint (§4.2)."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.common import Recorder, ended, given, open_lake
from flows.keys import api_key
from scot_core.config import SeedConfig
from scot_core.stages import recipes


@flow(name="scot", flow_run_name="seed: {config.count} from {config.endpoint.model}")
def seed(config: SeedConfig = SeedConfig(), captions: str | None = None, lake: str | None = None) -> State:
    """Write tables `replies`, `rejects` and `triplets` (kind seed) from `captions`, by default the newest.

    With `mode` batch, a run that finds its batches in progress waits for them. Whatever ends it, the next run with
    the same configuration goes on: the batches' ids are in the lake.
    """
    place, run = open_lake(lake), Recorder()
    triplets = recipes.seed(run, place, config, given(place, "captions", captions), api_key(config.endpoint))
    return ended(run, triplets=triplets)
