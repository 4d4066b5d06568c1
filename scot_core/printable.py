"""Text as it is, for terminals and pages: what would act instead of being seen is written out."""

from __future__ import annotations

import unicodedata

_ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, format (such as bidirectional), surrogates, line and paragraph ends


def printable(text: str) -> str:
    r"""`text` with control and format characters as Python writes them, such as `\x1b`, `\n` and `\u202e`."""
    if text.isprintable():
        return text
    return "".join(
        repr(character)[1:-1] if unicodedata.category(character) in _ACTING else character for character in text
    )
