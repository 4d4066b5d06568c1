"""`scot/generate`: a triplet for every caption, from the tuned model (§4.2)."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.common import Recorder, ended, open_lake
from flows.inputs import for_generate, for_mining
from flows.keys import api_key
from scot_core.config import GenerateConfig
from scot_core.stages.generate import generate as recipe
from tasks.artifacts import samples_artifact
from tasks.states import in_words


@flow(name="scot", flow_run_name="generate, {config.how}")
@in_words
def generate(
    config: GenerateConfig = GenerateConfig(),
    captions: str | None = None,
    adapter: str | None = None,
    lake: str | None = None,
) -> State:
    """Write tables `replies`, `rejects` and `triplets` (kind generated).

    By default by the newest adapter, for the captions it was tuned on; name both to write for other captions. Writers
    `mined` and `endpoint` need no adapter, and take the newest captions.

    Args:
        config: how the model is sampled, and where it runs.
        captions: a key of table captions.
        adapter: a key of table adapters.
        lake: path or URL of the lake, by default SCOT_LAKE of the worker.
    """
    place, run = open_lake(lake), Recorder()
    if config.needs_adapter:
        pictures, writer = for_generate(place, captions, adapter)
    else:
        pictures, writer = for_mining(place, captions), None
    triplets = recipe(run, place, config, pictures, writer, api_key(config.endpoint))
    samples_artifact(triplets)
    return ended(run, triplets=triplets)
