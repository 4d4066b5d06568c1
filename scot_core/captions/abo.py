"""Amazon Berkeley Objects (Collins et al., CVPR 2022): a product's name and what its listing says first are the caption
of its main image. SCOT speaks of "detailed captions" and not of where they come from; this is what a listing has.

`listings/metadata/listings_*.json.gz` holds a JSON object a line, with `main_image_id`, and `item_name` and
`bullet_point` [{"language_tag", "value"}]; `images/metadata/images.csv.gz` has columns image_id,height,width,path; the
image lies in `images/small/<path>` (256 pixels) or `images/original/<path>`.
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
        named, points = (row.values.get(field, []) for field in ("item_name", "bullet_point"))
        for texts in (named, points):
            if not isinstance(texts, list) or not all(map(_is_text, texts)):
                return refused(Reason.MALFORMED_ENTRY, row.where, shown(texts, json.dumps))
        name = _in_language(named, self._config.language)
        if name is None:
            return refused(Reason.NOT_IN_LANGUAGE, row.where, ", ".join(each["language_tag"] for each in named))
        image = row.values.get("main_image_id")
        if not isinstance(image, str) or not image:
            return refused(Reason.NO_IMAGE, row.where, name["value"])
        said = [each["value"] for each in points if each["language_tag"] == name["language_tag"]]
        caption = _detailed(*(html.unescape(text) for text in (name["value"], *said)), words=self._config.words)
        return checked(f"abo/{image}", None, caption, row.where)


def _detailed(name: str, *points: str, words: int) -> str:
    """The name, and the points that follow it as long as all has no more than so many words."""
    caption = name.strip()
    for point in points if caption else ():
        longer = f"{caption.rstrip('.')}. {point.strip()}"
        if len(longer.split()) > words:
            break
        caption = longer if point.strip() else caption
    return caption


def _is_text(text: Any) -> bool:
    return isinstance(text, dict) and isinstance(text.get("language_tag"), str) and isinstance(text.get("value"), str)


def _in_language(names: Sequence[dict[str, str]], language: str) -> dict[str, str] | None:
    """The one whose tag is the language, else its American variant, else its first variant."""
    fitting: dict[str, dict[str, str]] = {}
    for name in names:
        tag = name["language_tag"]
        if tag == language or tag.startswith(f"{language}_"):
            fitting.setdefault(tag, name)
    return fitting.get(language) or fitting.get(f"{language}_US") or next(iter(fitting.values()), None)
