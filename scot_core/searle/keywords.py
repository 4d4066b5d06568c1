"""Keywords of a caption without a tagger: words that are none of English's function words."""

from __future__ import annotations

import re
from typing import Final

_FUNCTION_WORDS: Final = """
about above across after against all along am among and are around as at be been before behind being below beside
between but by can could did do does during for from had has have he her hers him his how i if in inside into is it its
me my near next no not of off on onto or our out outside over she should so some than that their them then there these
they this those through to toward towards under until up upon us very was we were what when where which while who whose
why will with within without would you your
"""
FUNCTION_WORDS: Final = frozenset(_FUNCTION_WORDS.split())
"""Without determiners: LinCIR counts "a" and "the" to the keyword that they stand before."""
ARTICLES: Final = frozenset(("a", "an", "the"))
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def keywords(text: str) -> list[str]:
    """The words of a text that are neither function words nor articles, lower-cased."""
    words = (word.group().lower() for word in _WORD.finditer(text))
    return [word for word in words if word not in FUNCTION_WORDS and word not in ARTICLES]


def runs_of_keywords(text: str) -> list[tuple[int, int]]:
    """Where runs of keywords begin and end, articles among them; nothing but blanks lies between the words of one."""
    runs: list[tuple[int, int]] = []
    for word in _WORD.finditer(text):
        if word.group().lower() in FUNCTION_WORDS:
            continue
        if runs and not text[runs[-1][1] : word.start()].strip():
            runs[-1] = (runs[-1][0], word.end())
        else:
            runs.append(word.span())
    return runs
