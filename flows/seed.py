"""`scot/seed`: seed triplets from a strong model behind an endpoint (§4.2)."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.common import Recorder, ended, open_lake
from flows.inputs import for_seed
from flows.keys import api_key
from scot_core.config import SeedConfig
from scot_core.stages.preflight import require_teacher
from scot_core.stages.seed import seed as recipe
from tasks.states import in_words


@flow(name="scot", flow_run_name="seed: {config.count} from {config.endpoint.model}")
@in_words
def seed(
    config: SeedConfig = SeedConfig(), captions: str | None = None, lake: str | None = None, anyway: bool = False
) -> State:  # fmt: skip
    """Write tables `replies`, `rejects` and `triplets` (kind seed) from `captions`, by default the newest.

    With `mode` batch, a run that finds its batches in progress waits for them. Whatever ends it, the next run with
    the same configuration goes on: the batches' ids are in the lake.

    Args:
        config: who is asked, for how many triplets, and for how much money.
        captions: a key of table captions, by default the newest.
        lake: path or URL of the lake, by default SCOT_LAKE of the worker.
        anyway: go on with captions of one's own that the teacher does not know.
    """
    place = open_lake(lake)
    asked = for_seed(place, captions)
    run = Recorder() if anyway else Recorder(lambda: require_teacher(config, asked))
    triplets = recipe(run, place, config, asked, api_key(config.endpoint))
    return ended(run, triplets=triplets)
