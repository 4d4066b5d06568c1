"""`scot/captions`: captioned images into the lake (§4.1)."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.common import Recorder, ended, open_lake
from scot_core.config import CaptionsConfig
from scot_core.stages.captions import captions as recipe
from tasks.states import in_words


@flow(name="scot", flow_run_name="captions of {config.source}")
@in_words
def captions(config: CaptionsConfig = CaptionsConfig(), lake: str | None = None) -> State:
    """Write tables `captions` and, for the catalogue, `galleries`.

    Args:
        config: which captioned images, and how many.
        lake: path or URL of the lake, by default SCOT_LAKE of the worker.
    """
    run = Recorder()
    pictures = recipe(run, open_lake(lake), config)
    return ended(run, galleries=pictures.galleries, captions=pictures.captions)
