"""What was found, and as a picture: reference and text first, then each image with rank, score and caption."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageDraw, ImageFont, ImageOps

from scot_core.encoders.preprocessing import upright_rgb
from scot_core.errors import DataError
from scot_core.printable import printable

TILE: Final = 160  # pixels of a tile's side
ACROSS: Final = 5  # images in a row
LINES: Final = 3  # of a caption; the rest is cut
_EDGE, _GAP, _LINE, _SIZE = 4, 12, 15, 12  # pixels
_HEIGHT: Final = TILE + (1 + LINES) * _LINE + _EDGE
_INK, _FAINT = (20, 20, 20), (110, 110, 110)


@dataclass(frozen=True)
class Answer:
    """The best images, best first: dicts of rank, image_id, score, caption; and how much the text weighed.

    Attributes:
        modality_weight: between 0 (the image alone) and 1 (the text alone); None of a method that has no such weight.
        images: those of the hits, in order, opened and not decoded.
        unknown_words: those of the text that the encoder has never seen; empty where it cannot tell.
    """

    reference: Image.Image
    modality_weight: float | None
    hits: list[dict[str, Any]]
    images: list[Image.Image]
    text: str = ""
    unknown_words: Sequence[str] = ()

    def picture(self) -> Image.Image:
        """The reference, and right of it the hits, `ACROSS` in a row, with rank, score and caption below each."""
        sheet = Image.new("RGB", (TILE * (1 + min(ACROSS, len(self.hits))) + _GAP, _HEIGHT * self._rows), "white")
        _put(sheet, self.reference, ["reference", *_wrapped(self.text)], 0, 0)
        for number, (hit, image) in enumerate(zip(self.hits, self.images, strict=True)):
            row, column = divmod(number, ACROSS)
            words = [f"{hit['rank']}.  {hit['score']:.3f}", *_wrapped(hit["caption"] or hit["image_id"])]
            _put(sheet, image, words, TILE * (1 + column) + _GAP, _HEIGHT * row)
        return sheet

    @property
    def _rows(self) -> int:
        return max(1, -(-len(self.hits) // ACROSS))

    def save(self, path: Path) -> None:
        """Write `picture`. Raises DataError where it cannot be, such as for an ending that names no picture."""
        try:
            self.picture().save(path)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot write the picture {path}: {error}") from error

    def _repr_png_(self) -> bytes:
        """How notebooks show it."""
        buffer = io.BytesIO()
        self.picture().save(buffer, "PNG")
        return buffer.getvalue()


def _put(sheet: Image.Image, image: Image.Image, words: Sequence[str], left: int, top: int) -> None:
    inside = TILE - 2 * _EDGE
    shown = ImageOps.contain(upright_rgb(image), (inside, inside), Image.Resampling.LANCZOS)
    at = (left + _EDGE + (inside - shown.width) // 2, top + _EDGE + (inside - shown.height) // 2)
    sheet.paste(shown, at)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(words):
        place = (left + _EDGE, top + TILE + number * _LINE)
        draw.text(place, line, _INK if number == 0 else _FAINT, _font())


def _wrapped(text: str) -> list[str]:
    """Lines that fit below a tile; at most `LINES`, the last one cut."""
    lines, width = [""], TILE - 2 * _EDGE
    for word in printable(text).split():
        longer = f"{lines[-1]} {word}".strip()
        if _font().getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > LINES:
        lines = [*lines[: LINES - 1], f"{lines[LINES - 1]} …"]
    return [_cut(line, width) for line in lines if line]


def _cut(line: str, width: float) -> str:
    if _font().getlength(line) <= width:
        return line
    while line and _font().getlength(f"{line}…") > width:
        line = line[:-1]
    return f"{line}…"


@cache
def _font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and has most of the world's letters."""
    spec = find_spec("matplotlib")  # found, not imported: it takes a while
    assert spec is not None and spec.origin is not None, "the report needs it, too"
    return ImageFont.truetype(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf", _SIZE)
