"""Flickr30K (Young et al., TACL 2014), in each of the forms it is handed around in.

- `results_20130124.token`, as published: `1000092795.jpg#0<tab>Two young guys …`
- `results.csv`, as on Kaggle: header `image_name| comment_number| comment`, no quoting
- `captions.txt` or `captions.csv`: header `image,caption`, quoted as CSV is
- `dataset_flickr30k.json` (Karpathy and Fei-Fei): {"images": [{"filename", "sentences": [{"raw", …}], …}], …}
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import ijson

from scot_core.captions.directory import Directory
from scot_core.captions.entries import Entry, Reason, Refused, checked, refused, shown
from scot_core.captions.reader import Reader
from scot_core.captions.tables import csv_rows
from scot_core.config import Flickr30kConfig

TOKENS = "results_20130124.token"
TABLES = ("results.csv", "captions.txt", "captions.csv")
KARPATHY = "dataset_flickr30k.json"
ANNOTATIONS = (TOKENS, *TABLES, KARPATHY)  # the first that is there is read
FOLDERS = ("flickr30k-images", "flickr30k_images", "images", "Images")
COLUMNS = ("image", "caption")
ALIASES = {"image_name": "image", "filename": "image", "comment": "caption"}


class Flickr30k(Reader):
    """About 31,800 images with five captions each."""

    source = "flickr30k"

    def __init__(self, config: Flickr30kConfig) -> None:
        self.place = self.published(self.source, config)
        self.count = config.count

    @property
    def files(self) -> Sequence[str]:
        found = [name for name in ANNOTATIONS if self.place.is_file(name)]
        advice = f"a folder that holds one of {', '.join(ANNOTATIONS)}"
        self._need(bool(found), f"an annotation file in {self.place.root}", advice)
        return found[:1]

    @property
    def images(self) -> Directory:
        found = [name for name in FOLDERS if self.place.is_folder(name)]
        advice = f"a folder that holds one of {', '.join(FOLDERS)}"
        self._need(bool(found), f"the folder of images in {self.place.root}", advice)
        return self.place.folder(found[0])

    def entries(self) -> Iterator[Entry | Refused]:
        (name,) = self.files
        if name == TOKENS:
            return self._tokens(name)
        return self._karpathy(name) if name == KARPATHY else self._table(name)

    def _tokens(self, name: str) -> Iterator[Entry | Refused]:
        with self.place.text(name) as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                where = f"{name} line {number}"
                label, tab, caption = line.partition("\t")
                image, mark, _ = label.rpartition("#")
                if not tab or not mark:
                    yield refused(Reason.MALFORMED_ENTRY, where, line.strip())
                else:
                    yield _entry(image, caption, where)

    def _table(self, name: str) -> Iterator[Entry | Refused]:
        for row in csv_rows(self.place, name, COLUMNS, ALIASES):
            yield row if isinstance(row, Refused) else _entry(row.values["image"], row.values["caption"], row.where)

    def _karpathy(self, name: str) -> Iterator[Entry | Refused]:
        with self.place.stream(name) as file:
            for number, item in enumerate(ijson.items(file, "images.item", use_float=True), start=1):
                where = f"{name} image {number}"
                sentences = item.get("sentences") if isinstance(item, dict) else None
                if not isinstance(sentences, list):
                    yield refused(Reason.MALFORMED_ENTRY, where, shown(item))
                    continue
                for sentence in sentences:
                    raw = sentence.get("raw") if isinstance(sentence, dict) else None
                    yield _entry(item.get("filename"), raw, where)


def _entry(image: object, caption: object, where: str) -> Entry | Refused:
    if not isinstance(image, str) or not image:
        return refused(Reason.NO_IMAGE, where, f"{shown(image)}: {shown(caption)}")
    return checked(f"flickr30k/{PurePosixPath(image).stem}", image, caption, where)
