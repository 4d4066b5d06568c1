"""MS-COCO captions, 2014 and 2017 (Chen et al., "Microsoft COCO Captions", arXiv 1504.00325).

`annotations/captions_train2017.json` is {"images": [{"id", "file_name", …}], "annotations": [{"image_id", "id",
"caption"}], …}; the image lies in `train2017/<file_name>`. The id of an image is the same in both years.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import ijson

from scot_core.captions.directory import Directory
from scot_core.captions.entries import Entry, Reason, Refused, checked, refused, shown
from scot_core.captions.reader import Reader
from scot_core.config import CocoConfig
from scot_core.errors import DataError

LAYOUT = "the folder that holds annotations/ and the folders of images, as COCO's archives unpack"


class Coco(Reader):
    """Images and annotations of one file are joined by the spool, since either list may come first."""

    source = "coco"

    def __init__(self, config: CocoConfig) -> None:
        self.place = self.published(self.source, config)
        self.count = config.count
        self._config = config
        splits = ("train", "val") if config.split == "all" else (config.split,)
        self._folders = [f"{split}{config.year}" for split in splits]

    @property
    def files(self) -> Sequence[str]:
        names = [_annotations(folder) for folder in self._folders]
        for name in names:
            self._need(self.place.is_file(name), self.place.path(name), LAYOUT)
        return names

    @property
    def images(self) -> Directory:
        for folder in self._folders:
            self._need(self.place.is_folder(folder), self.place.path(folder), LAYOUT)
        return replace(self.place, inside=("", *self._folders))  # each of which may be a link

    def entries(self) -> Iterator[Entry | Refused]:
        for folder in self._folders:
            name = _annotations(folder)
            number = 0
            for number, item in enumerate(self._items(name, "annotations"), start=1):
                yield _entry(item, f"{name} annotation {number}")
            if number == 0:
                raise DataError(f"{self.place.path(name)} holds no list `annotations`: it is no file of COCO captions")

    def pictures(self) -> Iterator[tuple[str, str]]:
        for folder in self._folders:
            for item in self._items(_annotations(folder), "images"):
                image_id = _image_id(item, "id")
                file_name = item.get("file_name") if isinstance(item, dict) else None
                if image_id is not None and isinstance(file_name, str):  # else its entries find no image
                    yield image_id, f"{folder}/{file_name}"

    def _items(self, name: str, what: str) -> Iterator[Any]:
        with self.place.stream(name) as file:
            yield from ijson.items(file, f"{what}.item", use_float=True)


def _annotations(folder: str) -> str:
    return f"annotations/captions_{folder}.json"


def _entry(item: Any, where: str) -> Entry | Refused:
    image_id = _image_id(item, "image_id")
    if image_id is None:
        return refused(Reason.MALFORMED_ENTRY, where, shown(item))
    return checked(image_id, None, item.get("caption"), where)


def _image_id(item: Any, key: str) -> str | None:
    number = item.get(key) if isinstance(item, dict) else None
    return f"coco/{number:012d}" if isinstance(number, int) and not isinstance(number, bool) else None
