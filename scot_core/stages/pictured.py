"""Images of what triplets ask for, drawn and embedded: true targets, where a source can draw them."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
from PIL.Image import Image

from scot_core.catalogue.drawing import render
from scot_core.catalogue.grammar import CONTRADICTION, read_caption, read_modification
from scot_core.catalogue.world import Product, split_of, values
from scot_core.config import CaptionsConfig, EmbedConfig, validated
from scot_core.errors import ConfigError
from scot_core.lake import Dataset, Lake
from scot_core.lake.lineage import ancestor
from scot_core.stages.captions.catalogue import captioned
from scot_core.stages.embed.images import EmbedImages, Images, Item, Shard
from scot_core.stages.embed.texts import of_dataset
from scot_core.stages.embed.vectors import settings_of

TARGETS = "seen-targets"
_NAME = "target-"  # before the row of its triplet
TARGET_SEED = 20_000_000  # apart from those of captioned images and of the benchmark's


def draw_targets(lake: Lake, triplets: Dataset, images: Dataset) -> EmbedImages:
    """A vector of the image that each triplet asks for, in their order, by the encoder of `images`.

    None for a triplet whose target would show what the benchmark holds out: where the caption leaves the reference's
    colour or pattern unsaid, the texts do not, and the image does.

    Raises ConfigError for triplets of a source that cannot be drawn.
    """
    captions = ancestor(lake, triplets, "captions")
    if captions.config.get("source") != "catalogue":
        raise ConfigError(f"train.targets=true needs images that can be drawn, and {triplets.source} is not drawn here")
    config, drawn = validated(EmbedConfig, settings_of(images)), validated(CaptionsConfig, captions.config)

    @cache
    def products() -> dict[str, Product]:
        return {picture.image_id: picture.product for picture in captioned(drawn)}

    def shard(index: int) -> Shard:
        start = sum(part.rows for part in triplets.parts[:index])
        rows = triplets.read_part(index, ["image_id", "modification", "modified_caption"]).to_pylist()
        items = []
        for place, row in enumerate(rows, start):
            shown = asked_for(products()[row["image_id"]], row["modification"], row["modified_caption"])
            if split_of(shown) == "seen":
                opened = partial(_drawn, shown, drawn.image_size, TARGET_SEED + place)
                items.append(Item(triplets.source, f"{_NAME}{place:06d}", opened))
        return Shard(items, others=len(rows) - len(items))

    sizes = [part.rows for part in triplets.parts]
    identify = of_dataset(lake, config, triplets, TARGETS)
    return EmbedImages(lake, config, "draw and embed true targets", identify, Images(lambda: sizes, shard))


def drawn_targets(targets: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The rows (n,) int64 of the triplets that have a drawn target, and its vectors (n, dim) float32."""
    parts = list(targets.read_parts(["item_id", "vector"]))
    rows = [int(name.removeprefix(_NAME)) for part in parts for name in part["item_id"].to_pylist()]
    return np.array(rows), np.concatenate([np.stack(part["vector"].to_numpy()) for part in parts])


def _drawn(product: Product, size: int, seed: int) -> Image:
    return render(product, size, seed)


def asked_for(reference: Product, modification: str, modified_caption: str) -> Product:
    """The reference with what the two texts name; a detail that its type cannot have is the first that it can."""
    named = read_caption(modified_caption) | read_modification(modification)
    shown = reference.attributes() | {name: value for name, value in named.items() if value != CONTRADICTION}
    if shown["detail"] not in values("detail", shown["type"]):
        shown["detail"] = values("detail", shown["type"])[0]
    return Product(**shown)
