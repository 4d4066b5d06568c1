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


def main(name: str, folder: Path, out: Path) -> None:
    pictures = [Image.open(path) for path in sorted((folder / "samples").glob("[0-9]*"))]
    captions = json.loads((folder / "samples" / "captions.json").read_text())
    encoder = encoders.load(name, pooling="mean", device="cpu")
    arrays = {
        "pixels": np.stack([encoder.pixels(picture) for picture in pictures]),
        "mean": encoder.embed_images(pictures),
        "texts": encoder.embed_texts(captions),
        "spec": np.array(encoder.spec.model_dump_json()),
    }
    del encoder  # 5 GB at full size
    arrays["first"] = encoders.load(name, pooling="first", device="cpu").embed_pixels(arrays["pixels"])
    np.savez(out, **arrays)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
