"""Captions as words with their places, and edits of one span of words.

An edit puts the span `words[start:end]` of one caption in the place of the same span of another that agrees with it
everywhere else. Case, punctuation and the form of the article ("a", "an") do not make two captions different; they
are kept as the caption has them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from scot_core.triplets import edits

ARTICLE: Final = "a"  # stands for "an" as well
_WORD: Final = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
# Spoken with a vowel or a consonant against the letter
_AN: Final = re.compile(r"(?!uni|use|usu|eu|one\b|once)[aeiou]|hour|hono|heir")


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption's text, its words (lower case, "an" as "a") and where each stands in the text."""

    text: str
    words: tuple[str, ...]
    places: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, text: str) -> Caption:
        found = list(_WORD.finditer(text))
        lower = (match.group().lower() for match in found)
        words = tuple(ARTICLE if word == "an" else word for word in lower)
        return cls(text, words, tuple(match.span() for match in found))

    @property
    def joins(self) -> tuple[bool, ...]:
        """Whether nothing but white space is between each word and the next: one fewer than words."""
        pairs = zip(self.places, self.places[1:], strict=False)
        return tuple(self.text[left[1] : right[0]].isspace() for left, right in pairs)

    def surface(self, start: int, end: int) -> str:
        """The text from one word up to, not with, another; empty where there is none between."""
        return self.text[self.places[start][0] : self.places[end - 1][1]] if end > start else ""

    def has_article(self, at: int) -> bool:
        """Whether the word before a place is "a" or "an"."""
        return at > 0 and self.words[at - 1] == ARTICLE

    def is_named(self, start: int, end: int) -> bool:
        """Whether a span ends a phrase that begins with "a" or "an": `mug` in "a red mug with a handle"."""
        joins = (False, *self.joins, False)
        if end < len(self.words) and joins[end] and is_content(self.words[end]):
            return False
        at = start - 1
        while at >= 0 and joins[at + 1] and is_content(self.words[at]):
            at -= 1
        return at >= 0 and joins[at + 1] and self.words[at] == ARTICLE


def with_article(phrase: str) -> str:
    """`a mug`, `an orange mug`."""
    return f"{'an' if _AN.match(phrase.lower()) else 'a'} {phrase}"


def key(text: str) -> str:
    """Equal for captions of the same words: what a near-duplicate is."""
    return " ".join(Caption.of(text).words)


@lru_cache(1 << 16)
def is_content(word: str) -> bool:
    """Whether a word says what is shown, and is no article, preposition or auxiliary."""
    return bool(edits.content(word))


def exchange(caption: Caption, start: int, end: int, other: Caption, other_end: int) -> str:
    """The caption with `words[start:end]` as the other has them, up to `other_end`.

    The words of the result are `caption.words[:start] + other.words[start:other_end] + caption.words[end:]`; where
    the span is empty on one side, what separates words is taken over as well. `other` must agree with the caption
    up to `start`, and in the word after the span where `start` is 0.
    """
    if caption.has_article(start):  # "a man", "an old man"
        start -= 1
    elif start == 0 and (end == 0 or other_end == 0):  # what was or will be the first word changes its case
        end, other_end = end + 1, other_end + 1
    if start < end and start < other_end:
        new = other.surface(start, other_end)
        text = caption.text[: caption.places[start][0]] + new + caption.text[caption.places[end - 1][1] :]
    else:
        cut, stays = caption.places[start - 1][1], caption.places[max(start, end) - 1][1]
        come = other.text[other.places[start - 1][1] : other.places[other_end - 1][1]] if other_end > start else ""
        text = caption.text[:cut] + come + caption.text[stays:]
    return _as_begun(caption, text) if start == 0 else text


def substitute(caption: Caption, at: int, word: str) -> str:
    """The caption with another word in one place."""
    begin, end = caption.places[at]
    before = caption.text[:begin]
    if caption.has_article(at):
        first, last = caption.places[at - 1]
        old = caption.text[first:last]
        new = old[0] + with_article(word).partition(" ")[0][1:]
        before = caption.text[:first] + new + caption.text[last:begin]
    text = before + word + caption.text[end:]
    return _as_begun(caption, text) if at == 0 else text


def _as_begun(caption: Caption, text: str) -> str:
    """A text whose first word begins with a capital letter where the caption's does."""
    at = caption.places[0][0]
    letter = text[at].upper() if caption.text[at].isupper() else text[at].lower()
    return text[:at] + letter + text[at + 1 :] if len(letter) == 1 else text
