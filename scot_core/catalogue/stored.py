"""The catalogue's queries and gallery as rows of table `galleries`, and back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scot_core.catalogue.queries import CatalogueQueries, DrawnQuery, GalleryItem
from scot_core.catalogue.world import Product

Row = tuple[str, Product, dict[str, str | None]]
"""Image id, product, and columns of `galleries`."""

QUERY_COLUMNS = ["image_id", "draw", "role", "shows", "query"]
"""What `drawn_queries` reads of table `galleries`."""

_AS_THEY_ARE = ("query_id", "split", "kind", "modifications", "subset")


def gallery_rows(draw: str, drawn: CatalogueQueries) -> Iterator[Row]:
    """References, with what is asked of them, then the gallery."""
    for query in drawn.queries:
        asked = {
            **{name: getattr(query, name) for name in _AS_THEY_ARE},
            "target": query.target.attributes(), "changed": sorted(query.changed), "free": sorted(query.free),
        }  # fmt: skip
        columns = _columns(draw, "reference", query.reference, json.dumps(asked))
        yield query.reference_id, query.reference, columns
    for item in drawn.gallery:
        yield item.image_id, item.product, _columns(draw, "gallery", item.product, None)


def _columns(draw: str, role: str, product: Product, query: str | None) -> dict[str, str | None]:
    return {"draw": draw, "role": role, "shows": json.dumps(product.attributes()), "query": query}


def drawn_queries(rows: Sequence[Mapping[str, Any]], draw: str) -> CatalogueQueries:
    """The queries and the gallery of a draw, from rows with `QUERY_COLUMNS`."""
    queries, gallery = [], []
    for row in rows:
        if row["draw"] != draw:
            continue
        product = Product(**json.loads(row["shows"]))
        if row["role"] == "gallery":
            gallery.append(GalleryItem(row["image_id"], product))
            continue
        asked = json.loads(row["query"])
        queries.append(
            DrawnQuery(
                query_id=asked["query_id"], split=asked["split"], kind=asked["kind"], reference_id=row["image_id"],
                reference=product,
                modifications={wording: tuple(texts) for wording, texts in asked["modifications"].items()},
                target=Product(**asked["target"]), changed=frozenset(asked["changed"]), free=frozenset(asked["free"]),
                subset=tuple(asked["subset"]),
            )
        )  # fmt: skip
    return CatalogueQueries(tuple(queries), tuple(gallery))
