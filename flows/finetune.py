"""`scot/finetune`: LoRA on the 4-bit language model (§4.2)."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.common import Recorder, ended, given, open_lake
from scot_core.config import FinetuneConfig
from scot_core.stages import recipes


@flow(name="scot", flow_run_name="finetune {config.base}")
def finetune(
    config: FinetuneConfig = FinetuneConfig(),
    captions: str | None = None,
    seeds: str | None = None,
    lake: str | None = None,
) -> State:
    """Write table `adapters` from the seed `triplets`, measured on `captions` that are no seeds."""
    place, run = open_lake(lake), Recorder()
    learned_from = given(place, "triplets", seeds, stage="seed")
    adapters = recipes.finetune(run, place, config, given(place, "captions", captions), learned_from)
    return ended(run, adapters=adapters)
