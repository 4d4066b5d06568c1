"""`scot/embed`: frozen encoders over images and texts (§3.1, eq. 3)."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.common import Recorder, ended, open_lake
from flows.inputs import for_embed, for_fitted
from scot_core.config import EmbedConfig
from scot_core.stages.embed import embed as recipe
from scot_core.stages.preflight import require_encoder_for
from scot_core.stages.recipes import using
from tasks.states import in_words


@flow(name="scot", flow_run_name="embed with {config.encoder}")
@in_words
def embed(
    config: EmbedConfig = EmbedConfig(),
    captions: str | None = None,
    galleries: str | None = None,
    triplets: str | None = None,
    encoder: str | None = None,
    lake: str | None = None,
    anyway: bool = False,
) -> State:
    """Write table `embeddings`: images of `captions` and `galleries`, texts of the generated `triplets`.

    By default the newest generated triplets, the captions they were written for, and the images drawn with those.

    Args:
        config: the encoder.
        captions: a key of table captions.
        galleries: a key of table galleries.
        triplets: a key of table triplets, of stage generate.
        encoder: a key of table encoders, where the encoder is `fitted`; by default the newest of the same captions.
        lake: path or URL of the lake, by default SCOT_LAKE of the worker.
        anyway: go on with captions of one's own that the encoder hardly finds.
    """
    place = open_lake(lake)
    pictures, written = for_embed(place, captions, galleries, triplets)
    if config.is_to_fit:
        config = using(config, for_fitted(place, encoder, pictures.captions))
    run = Recorder() if anyway else Recorder(lambda: require_encoder_for(config, pictures.captions, place))
    vectors = recipe(run, place, config, pictures, written)
    return ended(run, images=vectors.images, texts=vectors.texts, gallery=vectors.gallery)
