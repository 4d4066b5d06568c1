"""`scot/invert`: images to pseudo-tokens, by gradient descent (SEARLE, arXiv 2303.15247)."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.common import Recorder, ended, open_lake
from flows.inputs import for_invert
from flows.keys import api_key
from scot_core.config import EmbedConfig, InvertConfig
from scot_core.stages.invert import invert as recipe
from tasks.states import in_words


@flow(name="scot", flow_run_name="invert images in {config.steps} steps")
@in_words
def invert(
    config: InvertConfig = InvertConfig(),
    encoder: EmbedConfig | None = None,
    captions: str | None = None,
    lake: str | None = None,
) -> State:
    """Write tables `phrases` and `pseudo_tokens`, and `embeddings` of the images where they are not there yet.

    By default the newest images' vectors, or with an encoder the newest captions.

    Args:
        config: concepts, phrases and the optimisation.
        encoder: by default the one that the images were embedded with.
        captions: a key of table captions.
        lake: path or URL of the lake, by default SCOT_LAKE of the worker.
    """
    place, run = open_lake(lake), Recorder()
    made = recipe(run, place, config, *for_invert(place, captions, encoder), api_key(config.phrases.endpoint))
    return ended(run, images=made.images, phrases=made.phrases, tokens=made.tokens)
