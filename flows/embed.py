"""`scot/embed`: frozen encoders over images and texts (§3.1, eq. 3)."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.common import Recorder, ended, given, of_source, open_lake
from scot_core.config import EmbedConfig
from scot_core.stages import recipes
from scot_core.stages.recipes import Pictures


@flow(name="scot", flow_run_name="embed with {config.encoder}")
def embed(
    config: EmbedConfig = EmbedConfig(),
    captions: str | None = None,
    galleries: str | None = None,
    triplets: str | None = None,
    lake: str | None = None,
) -> State:
    """Write table `embeddings`: images of `captions` and `galleries`, texts of the generated `triplets`."""
    place, run = open_lake(lake), Recorder()
    captioned = given(place, "captions", captions)
    pictures = Pictures(captioned, of_source(place, "galleries", galleries, like=captioned))
    vectors = recipes.embed(run, place, config, pictures, given(place, "triplets", triplets, stage="generate"))
    return ended(run, images=vectors.images, texts=vectors.texts, gallery=vectors.gallery)
