"""Embed the samples with one of our encoders, in whichever environment runs this.

python tests/lavis/embed_samples.py ENCODER FOLDER OUT.npz
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from scot_core import encoders
from scot_core.encoders.spec import TakesPixels


def main(name: str, folder: Path, out: Path) -> None:
    pictures = [Image.open(path) for path in sorted((folder / "samples").glob("[0-9]*"))]
    captions = json.loads((folder / "samples" / "captions.json").read_text())
    encoder = load(name, "mean")
    pixels = np.stack([encoder.pixels(picture) for picture in pictures])
    mean, texts = encoder.embed_images(pictures), encoder.embed_texts(captions)
    spec = np.array(encoder.spec.model_dump_json())
    del encoder  # 5 GB at full size
    np.savez(out, pixels=pixels, mean=mean, first=load(name, "first").embed_pixels(pixels), texts=texts, spec=spec)


def load(name: str, pooling: str) -> TakesPixels:
    encoder = encoders.load(name, pooling=pooling, device="cpu")
    assert isinstance(encoder, TakesPixels)
    return encoder


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
