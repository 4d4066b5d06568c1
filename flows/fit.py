"""`scot/fit`: an image-text encoder fitted to the captions, where no published one is at hand."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.common import Recorder, ended, open_lake
from flows.inputs import for_mining
from scot_core.config import FitConfig, GenerateConfig
from scot_core.stages.fit import fit as recipe
from tasks.states import in_words


@flow(name="scot", flow_run_name="fit {config.image_tower}")
@in_words
def fit(
    config: FitConfig = FitConfig(),
    generate: GenerateConfig = GenerateConfig(),
    captions: str | None = None,
    lake: str | None = None,
) -> State:
    """Write table `encoders`: projections of two frozen towers, and how often held-out captions are found.

    Args:
        config: the towers, the projections and how they are trained.
        generate: writer mined: what it holds out is held out from the encoder, too.
        captions: a key of table captions, by default the newest.
        lake: path or URL of the lake, by default SCOT_LAKE of the worker.
    """
    place, run = open_lake(lake), Recorder()
    encoder = recipe(run, place, config, generate, for_mining(place, captions))
    return ended(run, encoder=encoder)
