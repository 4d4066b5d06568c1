"""Pictures as data URIs, so that a page carries them itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from scot_core.lake import Dataset
from scot_core.stages.embed.images import stored_picture

LARGEST = 256  # pixels; larger pictures are scaled down


def images_of(dataset: Dataset, ids: Collection[str]) -> dict[str, Image.Image]:
    """The images of some ids of `captions` or `galleries`, in RGB; parts after the last wanted one are not read."""
    wanted, found = set(ids), dict[str, Image.Image]()
    for whole in dataset.read_parts(["image_id", "image"]):
        part = whole.filter(pc.is_valid(pc.struct_field(whole["image"], "bytes")))  # further captions carry no image
        places = [i for i, image_id in enumerate(part["image_id"].to_pylist()) if image_id in wanted]
        for row in part.take(pa.array(places, pa.int64())).to_pylist():
            found[row["image_id"]] = stored_picture(row).convert("RGB")
        if len(found) == len(wanted):
            break
    return found


def data_uri(image: Image.Image) -> str:
    """A small picture as PNG without loss, a large one scaled down as JPEG."""
    small = max(image.size) <= LARGEST
    if not small:
        image = image.copy()
        image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if small:
        image.save(buffer, format="PNG", optimize=True)
    else:
        image.save(buffer, format="JPEG", quality=85)
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def svg_uri(svg: str) -> str:
    """An SVG document as a data URI."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
