"""Pictures and captions that both encoders must see alike, the ugly ones among them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

CAPTIONS = [
    "a red mug with a dog",
    "A Red MUG, with (a dog)!",
    'the "mug": red; #1 ~ the * dog...',
    "dogs' mugging / the-mug?",
    "  two   spaces \n and a line's end\n",
    "a",
    "",
    "caf\u00e9 \u2013 \u732b \U0001f436",
    " ".join(["mug"] * 60),
    " ".join(["antidisestablishmentarianism"] * 50),  # more than the Q-Former's 512 positions
]


def write(folder: Path, count: int | None = None) -> None:
    """Fills `folder` with numbered picture files, the first `count` of them, and captions.json."""
    folder.mkdir(parents=True)
    for number, (name, picture) in enumerate(list(_pictures().items())[:count]):
        picture.save(folder / f"{number:02}-{name}")
    (folder / "captions.json").write_text(json.dumps(CAPTIONS))


def _pictures() -> dict[str, Image.Image]:
    random = np.random.default_rng(7)

    def noise(width: int, height: int, channels: int = 3) -> np.ndarray:
        coarse = random.integers(0, 256, (6, 6, channels), dtype=np.uint8)
        planes = [
            Image.fromarray(coarse[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(channels)
        ]
        fine = random.integers(-12, 13, (height, width, channels))
        return (np.stack([np.asarray(plane) for plane in planes], -1) + fine).clip(0, 255).astype(np.uint8)

    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(noise(120, 60))
    turned.info["exif"] = exif.tobytes()
    clear = Image.fromarray(noise(97, 133)).convert("P", palette=Image.Palette.ADAPTIVE)
    clear.info["transparency"] = 3
    return {
        "photo.jpg": Image.fromarray(noise(640, 427)),
        "fits.png": Image.fromarray(noise(224, 224)),
        "palette.gif": Image.fromarray(noise(97, 133)).convert("P", palette=Image.Palette.ADAPTIVE),
        "transparent.png": clear,
        "alpha.png": Image.fromarray(noise(61, 301, 4), "RGBA"),
        "grey.png": Image.fromarray(noise(333, 333)[..., 0]),
        "deep.png": Image.fromarray(noise(50, 40)[..., 0].astype(np.uint16) * 257),
        "cmyk.jpg": Image.fromarray(noise(200, 100)).convert("CMYK"),
        "bilevel.png": Image.fromarray(noise(64, 64)).convert("1"),
        "one-pixel.png": Image.fromarray(noise(1, 1)),
        "sliver.png": Image.fromarray(noise(3, 700)),
        "turned.jpg": turned,
    }
