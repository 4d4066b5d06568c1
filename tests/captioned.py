"""Small captioned data sets, written in the form in which each is published."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

Captions = Mapping[int, Sequence[str]]  # by number of the image

CAPTIONS: Captions = {
    number: [f"{colour} square, number {number}", f"a {colour} picture", f"something {colour} {number}"]
    for number, colour in enumerate(["red", "green", "blue", "pink", "gold", "navy"], start=1)
}


def picture(
    colour: str | int | tuple[int, ...] = "red", kind: str = "JPEG", mode: str = "RGB", **options: Any
) -> bytes:
    """An image file of one colour, 16 x 12 pixels."""
    buffer = io.BytesIO()
    Image.new(mode, (16, 12), colour).save(buffer, kind, **options)
    return buffer.getvalue()


def gif(frames: int = 3) -> bytes:
    """An animated GIF."""
    images = [Image.new("P", (16, 12), number) for number in range(frames)]
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:])
    return buffer.getvalue()


def _pictures(folder: Path, names: Iterable[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for place, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture((place * 20 % 256, 90, 120)))


def coco(root: Path, captions: Captions = CAPTIONS, year: str = "2017", split: str = "train") -> Path:
    """`captions_<split><year>.json` and its images; 2014's file names carry a prefix."""
    names = {n: f"{n:012d}.jpg" if year == "2017" else f"COCO_{split}2014_{n:012d}.jpg" for n in captions}
    images = [
        {"license": 3, "file_name": name, "coco_url": "", "height": 12, "width": 16, "id": number}
        for number, name in names.items()
    ]
    texts = [(number, text) for number, several in captions.items() for text in several]
    annotations = [{"image_id": number, "id": 100 + i, "caption": text} for i, (number, text) in enumerate(texts)]
    write_coco(root, images, annotations, f"{split}{year}")
    _pictures(root / f"{split}{year}", names.values())
    return root


def write_coco(root: Path, images: Any, annotations: Any, folder: str = "train2017") -> Path:
    """The JSON file alone."""
    path = root / "annotations" / f"captions_{folder}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"info": {"year": 2017}, "licenses": [], "images": images, "annotations": annotations}
    path.write_text(json.dumps(content))
    return path


def flickr30k(root: Path, form: str = "token", captions: Captions = CAPTIONS) -> Path:
    """One of token, bars, commas, karpathy; and the images."""
    rows = [(f"{1000 + n}.jpg", i, text) for n, several in captions.items() for i, text in enumerate(several)]
    root.mkdir(parents=True, exist_ok=True)
    if form == "token":
        (root / "results_20130124.token").write_text("".join(f"{name}#{i}\t{text}\n" for name, i, text in rows))
    elif form == "bars":
        lines = ["image_name| comment_number| comment", *(f"{name}| {i}| {text}" for name, i, text in rows)]
        (root / "results.csv").write_text("\n".join(lines) + "\n")
    elif form == "commas":
        lines = ["image,caption", *(f'{name},"{text}"' for name, _, text in rows)]
        (root / "captions.txt").write_text("\n".join(lines) + "\n")
    else:
        images = [
            {
                "sentids": list(range(len(several))),
                "imgid": place,
                "sentences": [
                    {"tokens": t.split(), "raw": t, "imgid": place, "sentid": i} for i, t in enumerate(several)
                ],
                "split": "train",
                "filename": f"{1000 + number}.jpg",
            }
            for place, (number, several) in enumerate(captions.items())
        ]
        (root / "dataset_flickr30k.json").write_text(json.dumps({"images": images, "dataset": "flickr30k"}))
    folder = {"token": "flickr30k-images", "bars": "flickr30k_images"}.get(form, "images")
    _pictures(root / folder, [f"{1000 + number}.jpg" for number in captions])
    return root


def listing(image: str | None, **names: str) -> dict[str, Any]:
    """One ABO product; `en_US="Red mug"` is its name in that language."""
    product: dict[str, Any] = {"item_id": f"B0{image}", "domain_name": "amazon.com"}
    product["item_name"] = [{"language_tag": tag, "value": value} for tag, value in names.items()]
    return product if image is None else {**product, "main_image_id": image}


def abo(root: Path, listings: Sequence[Sequence[dict[str, Any] | bytes]], images: Sequence[str]) -> Path:
    """A `listings_<n>.json.gz` for each list of products (bytes as they are), `images.csv.gz`, and the images."""
    folder = root / "listings" / "metadata"
    folder.mkdir(parents=True, exist_ok=True)
    for number, products in enumerate(listings):
        lines = [p if isinstance(p, bytes) else json.dumps(p, ensure_ascii=False).encode() for p in products]
        (folder / f"listings_{number:x}.json.gz").write_bytes(gzip.compress(b"\n".join(lines) + b"\n"))
    table = "image_id,height,width,path\n" + "".join(f"{i},12,16,{i[:2].lower()}/{i.lower()}.jpg\n" for i in images)
    metadata = root / "images" / "metadata"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "images.csv.gz").write_bytes(gzip.compress(table.encode()))
    _pictures(root / "images" / "small", [f"{i[:2].lower()}/{i.lower()}.jpg" for i in images])
    return root


def products(count: int) -> tuple[list[list[dict[str, Any] | bytes]], list[str]]:
    """`count` products in English and German over two files, and their images."""
    ids = [f"7{n}abc" for n in range(count)]
    made: list[dict[str, Any] | bytes] = [listing(i, de_DE=f"Becher {i}", en_GB=f"Mug {i}") for i in ids]
    return [made[::2], made[1::2]], ids
