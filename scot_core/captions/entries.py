"""What readers yield: entries, and the refusals of what is none. Every reason is documented here, and only here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

LONGEST_CAPTION = 1000  # characters; encoders read 32 to 77 tokens
LONGEST_RAW = 2000  # characters of what was there that a reject keeps


class Reason(StrEnum):
    """Why something is no captioned image: the words of column `reason` in table `rejects`."""

    # known from the annotation file alone; such an entry never takes part in the draw
    MALFORMED_ENTRY = "malformed_entry"  # a line or object that is not of the published form
    WRONG_ENCODING = "wrong_encoding"  # bytes that are not UTF-8, or half a surrogate pair
    NO_IMAGE = "no_image"  # it names no image
    NOT_IN_LANGUAGE = "not_in_language"  # ABO: no name in the language chosen
    EMPTY_CAPTION = "empty_caption"
    CAPTION_TOO_LONG = "caption_too_long"  # over 1,000 characters
    # known once it was drawn
    DUPLICATE_PAIR = "duplicate_pair"  # the same image and caption as an earlier entry
    IMAGE_OUTSIDE_FOLDER = "image_outside_folder"  # an absolute path, one with `..`, or a link that leads out
    IMAGE_MISSING = "image_missing"  # no such file, a link to none, or an image that the annotations do not list
    IMAGE_NOT_A_FILE = "image_not_a_file"  # a pipe, a device, a socket: never opened
    IMAGE_EMPTY = "image_empty"  # a file of 0 bytes
    IMAGE_BROKEN = "image_broken"  # it does not decode to its end
    IMAGE_TOO_LARGE = "image_too_large"  # 256 MB, or Pillow's limit against decompression bombs (179 million pixels)


@dataclass(frozen=True, slots=True)
class Entry:
    """A caption and its image. `path` is relative to the reader's images; None where `pictures()` knows it."""

    image_id: str
    path: str | None
    caption: str


@dataclass(frozen=True, slots=True)
class Refused:
    """What made no entry: `where` names file and position, `raw` says what was there."""

    reason: Reason
    where: str
    raw: str


def checked(image_id: str, path: str | None, caption: object, where: str) -> Entry | Refused:
    """An entry with its white space put in order, so that a caption is one line; or why there is none."""
    if not isinstance(caption, str):
        return refused(Reason.MALFORMED_ENTRY, where, shown(caption))
    text = " ".join(caption.split())
    if not text:
        return refused(Reason.EMPTY_CAPTION, where, image_id)
    if len(text) > LONGEST_CAPTION:
        return refused(Reason.CAPTION_TOO_LONG, where, text)
    if not all(_is_text(value) for value in (image_id, path or "", text)):
        return refused(Reason.WRONG_ENCODING, where, f"{image_id}: {text}")
    return Entry(image_id, path, text)


def refused(reason: Reason, where: str, raw: str) -> Refused:
    """A refusal whose texts can be stored: cut short, and bytes that are no text written as escapes."""
    return Refused(reason, _storable(where), _storable(raw[:LONGEST_RAW]))


def shown(value: object, how: Callable[[Any], str] = repr) -> str:
    """A value as text, however deeply it is nested."""
    try:
        return how(value)
    except RecursionError:
        return "something nested too deeply to show"


def _is_text(value: str) -> bool:
    """False where undecodable bytes were read as lone surrogates, or JSON escapes made some."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _storable(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode()
