"""`scot/finetune`: LoRA on the 4-bit language model (§4.2)."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.common import Recorder, ended, open_lake
from flows.inputs import for_finetune
from scot_core.config import FinetuneConfig
from scot_core.stages.finetune import finetune as recipe
from scot_core.stages.preflight import require_language_model
from tasks.states import in_words


@flow(name="scot", flow_run_name="finetune {config.base}")
@in_words
def finetune(
    config: FinetuneConfig = FinetuneConfig(),
    captions: str | None = None,
    seeds: str | None = None,
    lake: str | None = None,
    anyway: bool = False,
) -> State:
    """Write table `adapters` from the seed `triplets`, measured on `captions` that are no seeds.

    By default the newest seeds and the captions they were written for.

    Args:
        config: the model and how it is tuned.
        captions: a key of table captions.
        seeds: a key of table triplets, of stage seed.
        lake: path or URL of the lake, by default SCOT_LAKE of the worker.
        anyway: go on with captions of one's own that the model does not know.
    """
    place = open_lake(lake)
    pictures, learned_from = for_finetune(place, captions, seeds)
    run = Recorder() if anyway else Recorder(lambda: require_language_model(config, pictures))
    adapters = recipe(run, place, config, pictures, learned_from)
    return ended(run, adapters=adapters)
