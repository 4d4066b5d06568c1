"""Two worlds of captioned pictures in one table, for study `domain`: emoji, and the drawn catalogue. `make worlds`.

    python -m deployments.worlds [FOLDER]

Written is captions.csv (image, caption). Below `fluent` and `noto` are the emoji of `deployments.emoji`, below
`catalogue` products of the seen splits, captioned by type, colour, pattern and badge in one frame, so that products
which differ in one of these have captions that differ in one. The table is handed to the command of the study like
any other table of one's own.
"""

from __future__ import annotations

import random
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Final

from deployments.emoji import fetch, put, read, rows, write
from scot_core.catalogue.drawing import draw_png
from scot_core.catalogue.language import caption
from scot_core.catalogue.world import sample

WORLD: Final = "catalogue"  # its folder
COUNT: Final = 6000  # about as many as there are pictures of emoji
SIZE: Final = 64
SAID: Final = ("type", "colour", "pattern", "badge")
ONE_STYLE: Final = 0


def draw(folder: Path, count: int) -> list[dict[str, str]]:
    """Rows of the table for products, which are drawn where they are not there yet."""
    rng, drawn = random.Random(0), []
    (folder / WORLD).mkdir(parents=True, exist_ok=True)
    for place in range(count):
        product, name = sample(rng, "seen"), f"{WORLD}/{place:06d}.png"
        put(folder / name, partial(draw_png, product, SIZE, place))
        drawn.append({"image": name, "caption": caption(product, SAID, ONE_STYLE)})
    return drawn


def main(folder: Path) -> int:
    got = rows(read(fetch(folder / ".packages"), folder))  # first: npm may not be there
    drawn = draw(folder, COUNT)
    write(folder / "captions.csv", [*drawn, *got], ("image", "caption"))
    print(f"{len(drawn):,} pictures of the catalogue, {len(got):,} of emoji", flush=True)
    command = ["study", "domain", "--captions", str(folder / "captions.csv")]
    print(f"\n$ scot {' '.join(command)}", flush=True)
    return subprocess.run([sys.executable, "-m", "scot.cli", *command], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "worlds")))
