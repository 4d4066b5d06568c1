"""Amazon Berkeley Objects (Collins et al., CVPR 2022): a product's name is the caption of its main image.

`listings/metadata/listings_*.json.gz` holds a JSON object a line, with `item_name` [{"language_tag", "value"}] and
`main_image_id`; `images/metadata/images.csv.gz` has columns image_id,height,width,path; the image lies in
`images/small/<path>` (256 pixels) or `images/original/<path>`.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Sequence
from typing import Any

from scot_core.captions.directory import Directory
from scot_core.captions.entries import Entry, Reason, Refused, checked, refused, shown
from scot_core.captions.reader import Reader
from scot_core.captions.tables import TableRow, csv_rows, json_rows
from scot_core.config import AboConfig

LISTINGS = "listings/metadata"
IMAGES = "images/metadata/images.csv.gz"
LAYOUT = "the folder into which abo-listings.tar and abo-images-small.tar (or -original) were unpacked"


class Abo(Reader):
    """147,702 listings; those with a name in the language chosen become entries."""

    source = "abo"

    def __init__(self, config: AboConfig) -> None:
        self.place = self.published(self.source, config)
        self.count = config.count
        self._config = config

    @property
    def files(self) -> Sequence[str]:
        self._need(bool(self._listings), f"{self.place.path(LISTINGS)}/listings_*.json.gz", LAYOUT)
        self._need(self.place.is_file(IMAGES), self.place.path(IMAGES), LAYOUT)
        return [*self._listings, IMAGES]

    @property
    def images(self) -> Directory:
        folder = f"images/{self._config.images}"
        self._need(self.place.is_folder(folder), self.place.path(folder), LAYOUT)
        return self.place.folder(folder)

    def entries(self) -> Iterator[Entry | Refused]:
        for name in self._listings:
            for row in json_rows(self.place, name):
                yield row if isinstance(row, Refused) else self._entry(row)

    def pictures(self) -> Iterator[tuple[str, str]]:
        for row in csv_rows(self.place, IMAGES, ("image_id", "path")):
            if isinstance(row, TableRow):  # else the entries of this image find none
                yield f"abo/{row.values['image_id']}", row.values["path"]

    @property
    def _listings(self) -> list[str]:
        return self.place.names(LISTINGS, "listings_*.json", "listings_*.json.gz")

    def _entry(self, row: TableRow) -> Entry | Refused:
        names = row.values.get("item_name", [])
        if not isinstance(names, list) or not all(_is_name(name) for name in names):
            return refused(Reason.MALFORMED_ENTRY, row.where, shown(names, json.dumps))
        value = _in_language(names, self._config.language)
        if value is None:
            return refused(Reason.NOT_IN_LANGUAGE, row.where, ", ".join(name["language_tag"] for name in names))
        image = row.values.get("main_image_id")
        if not isinstance(image, str) or not image:
            return refused(Reason.NO_IMAGE, row.where, value)
        return checked(f"abo/{image}", None, html.unescape(value), row.where)


def _is_name(name: Any) -> bool:
    return isinstance(name, dict) and isinstance(name.get("language_tag"), str) and isinstance(name.get("value"), str)


def _in_language(names: Sequence[dict[str, str]], language: str) -> str | None:
    """The value whose tag is the language, else its American variant, else its first variant."""
    fitting: dict[str, str] = {}
    for name in names:
        tag = name["language_tag"]
        if tag == language or tag.startswith(f"{language}_"):
            fitting.setdefault(tag, name["value"])
    return fitting.get(language) or fitting.get(f"{language}_US") or next(iter(fitting.values()), None)
