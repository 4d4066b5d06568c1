"""`scot/distill`: a network φ that gives pseudo-tokens at once (SEARLE, and its cousins Pic2Word and LinCIR)."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.common import Recorder, ended, open_lake
from flows.inputs import for_distill
from scot_core.config import DistillConfig, EmbedConfig
from scot_core.stages.recipes import distill as recipe
from tasks.states import in_words


@flow(name="scot", flow_run_name="distill with method {config.method}")
@in_words
def distill(
    config: DistillConfig = DistillConfig(),
    encoder: EmbedConfig | None = None,
    captions: str | None = None,
    tokens: str | None = None,
    lake: str | None = None,
) -> State:
    """Write table `inverters`. Method searle learns from `pseudo_tokens`, the others from images or captions.

    By default the newest pseudo-tokens; for the others the newest images' vectors, or with an encoder the newest
    captions.

    Args:
        config: the method, and how φ is trained.
        encoder: methods pic2word and lincir; by default the one that the images were embedded with.
        captions: a key of table captions.
        tokens: method searle: a key of table pseudo_tokens.
        lake: path or URL of the lake, by default SCOT_LAKE of the worker.
    """
    place, run = open_lake(lake), Recorder()
    pictures, embed, words = for_distill(place, config, captions, encoder, tokens)
    return ended(run, inverters=recipe(run, place, config, pictures, embed, words))
