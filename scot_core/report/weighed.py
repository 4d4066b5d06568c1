"""The first image found where the text weighs as much as somebody chooses (Figure 4's last column, turned by hand)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from scot_core.catalogue.wordings import KNOWN
from scot_core.lake import Dataset, Lake
from scot_core.methods.combiners import composed
from scot_core.report.choice import shuffled
from scot_core.report.gallery import Hit, asked_of, note, own_weights
from scot_core.report.images import images_of
from scot_core.report.lineage import Lineage, trace
from scot_core.retrieval import top_k
from scot_core.studies.measure import studies_of
from scot_core.studies.spec import TEXT_WEIGHT

WEIGHTS: Final = (None, 0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the text, in place of the Combiner's own; None is its own."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """A query and what is found first at each of `WEIGHTS`."""

    kind: str
    reference: Image.Image
    modification: str
    modality_weight: float
    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class AtWeights:
    """A query of each kind, and R@1 in percent over all queries, each in its first text, at each of `WEIGHTS`."""

    examples: tuple[Weighed, ...]
    recalls: tuple[float, ...]


def at_weights(lake: Lake) -> AtWeights | None:
    """Those of the paper's Combiner in the newest study of weights on the catalogue; None where there is none whole."""
    scores = studies_of(lake).table("scores").datasets()
    traced = [trace(studies_of(lake), one) for one in scores if one.config.get("metric") == TEXT_WEIGHT]
    whole = [one for one in traced if not one.missing]  # else something it was measured with was removed
    found = [one for one in whole if one.root.source == "catalogue" and _is_the_papers(one)]
    return _at_weights(found[-1]) if found else None


def _is_the_papers(lineage: Lineage) -> bool:
    trained = lineage.given("combiners").config
    return (trained["loss"], trained.get("targets", "text")) == ("scot", "text")


def _at_weights(lineage: Lineage) -> AtWeights:
    embeddings = lineage.given("embeddings", stage="embed-gallery")
    pictures: Dataset = lineage.inputs(embeddings)[0]
    asked = asked_of(lineage.given("combiners"), embeddings, pictures)
    queries, items, own = asked.drawn.queries, asked.drawn.gallery, own_weights(asked)
    vectors = [composed(asked.combiner, asked.images, asked.texts, weight) for weight in WEIGHTS]
    first = np.stack([top_k(its, asked.gallery, 1)[1][:, 0] for its in vectors], axis=1)  # (Q, weights)
    targets = [set(asked.drawn.targets(place)) for place in range(len(queries))]
    right = np.array([[index in wanted for index in found] for found, wanted in zip(first, targets, strict=True)])
    by_kind = {queries[at].kind: at for at in shuffled(range(len(queries)), lambda at: queries[at].query_id)[::-1]}
    chosen = sorted(by_kind.values(), key=lambda place: queries[place].kind)
    wanted = {items[index].image_id for place in chosen for index in first[place]}
    image = images_of(pictures, wanted | {queries[place].reference_id for place in chosen})
    examples = []
    for at in chosen:
        query, found = queries[at], [(items[index], bool(ok)) for index, ok in zip(first[at], right[at], strict=True)]
        hits = tuple(Hit(image[item.image_id], ok, note(query, item.product, ok)) for item, ok in found)
        examples.append(Weighed(query.kind, image[query.reference_id], query.modifications[KNOWN][0], own[at], hits))
    return AtWeights(tuple(examples), tuple(float(share) for share in 100 * right.mean(axis=0)))
