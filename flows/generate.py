"""`scot/generate`: a triplet for every caption, from the tuned model (§4.2)."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.common import Recorder, ended, given, open_lake
from flows.keys import api_key
from scot_core.config import GenerateConfig
from scot_core.stages import recipes
from tasks.artifacts import samples_artifact


@flow(name="scot", flow_run_name="generate, up to {config.attempts} tries")
def generate(
    config: GenerateConfig = GenerateConfig(),
    captions: str | None = None,
    adapter: str | None = None,
    lake: str | None = None,
) -> State:
    """Write tables `replies`, `rejects` and `triplets` (kind generated)."""
    place, run = open_lake(lake), Recorder()
    writer = given(place, "adapters", adapter)
    pictures = given(place, "captions", captions)
    triplets = recipes.generate(run, place, config, pictures, writer, api_key(config.endpoint))
    samples_artifact(triplets)
    return ended(run, triplets=triplets)
