"""Image files, decoded to their end before they are believed.

Bytes are kept as they are on disk: colour modes (CMYK, 16 bit), EXIF rotation and further frames of animations are
left to the encoder, which decodes anew.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import PurePosixPath

from PIL import Image, UnidentifiedImageError

from scot_core.captions.directory import Directory
from scot_core.captions.entries import Reason

# Pillow knows more, but some of those start other programs (EPS) or are no pictures (HDF5)
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")


@dataclass(frozen=True, slots=True)
class Bad:
    """Why a file is no image."""

    reason: Reason
    raw: str


def load(images: Directory, path: str | None) -> bytes | Bad:
    """The bytes of an image file whose first frame decodes whole, or what is wrong with it."""
    if path is None:
        return Bad(Reason.IMAGE_MISSING, "the annotations do not list this image")
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts:
        return Bad(Reason.IMAGE_OUTSIDE_FOLDER, path)
    data = images.read(path)
    if isinstance(data, Reason):
        return Bad(data, path)
    if not data:
        return Bad(Reason.IMAGE_EMPTY, path)
    return _problem(data, path) or data


def _problem(data: bytes, path: str) -> Bad | None:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            image.load()
    except UnidentifiedImageError:
        return Bad(Reason.IMAGE_BROKEN, f"{path}: its bytes are none of {', '.join(FORMATS)}")
    except Image.DecompressionBombError as error:
        return Bad(Reason.IMAGE_TOO_LARGE, f"{path}: {error}")
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes Pillow's decoders raise anything, struct.error and KeyError too
        return Bad(Reason.IMAGE_BROKEN, f"{path}: {str(error) or type(error).__name__}")
    return None
