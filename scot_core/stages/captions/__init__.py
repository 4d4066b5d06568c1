"""Stage captions: captioned images into the lake (§4.1)."""

from __future__ import annotations

from dataclasses import dataclass

from scot_core.config import CaptionsConfig
from scot_core.lake import Dataset, Lake
from scot_core.stages.gates import require_kept
from scot_core.stages.step import Run


@dataclass(frozen=True, slots=True)
class CaptionedImages:
    """Captioned images, and the images of the source's benchmark where it has one."""

    captions: Dataset
    galleries: Dataset | None


def captions(run: Run, lake: Lake, config: CaptionsConfig) -> CaptionedImages:
    """Draws the catalogue, or reads what lies in files. Raises GateError where too few entries can be used."""
    if config.is_drawn:
        from scot_core.stages.captions.catalogue import draw_captions, draw_gallery

        drawn = run(draw_captions(lake, config))["captions"]
        return CaptionedImages(drawn, run(draw_gallery(lake, config))["galleries"])
    from scot_core.stages.captions.read import ReadCaptions

    read = run(ReadCaptions(lake, config))["captions"]
    advice = "look at the commonest reasons first"
    require_kept(lake, read, config.min_kept, "captions.min_kept", what="entries", advice=advice)
    return CaptionedImages(read, None)
