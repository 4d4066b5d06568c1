"""Sentences with a pseudo-token: built from parts, so that a `$` in somebody's text is text and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from scot_core.errors import DataError

PLACEHOLDER: Final = "$"


@dataclass(frozen=True, slots=True)
class Sentence:
    """Plain text before and after one pseudo-token, each read as text by the tokenizer.

    Each of `more` follows the same pseudo-token once again: only LinCIR writes it more than once.
    """

    before: str
    after: str
    more: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Sentence:
        """A sentence of our own making, whose one `$` is the pseudo-token. Raises DataError for none or several."""
        before, *rest = text.split(PLACEHOLDER)
        if len(rest) != 1:
            raise DataError(
                f"the sentence {text!r} has {len(rest)} times {PLACEHOLDER!r}, which stands for the pseudo-token; "
                "it must have it once"
            )
        return cls(before, rest[0])

    def with_word(self, word: str) -> str:
        """The sentence with an ordinary word, or several, in the pseudo-token's place."""
        return word.join(self.parts)

    @property
    def parts(self) -> tuple[str, ...]:
        """The texts between which the pseudo-token stands."""
        return (self.before, self.after, *self.more)


def query_sentence(modification: str) -> Sentence:
    """`a photo of $ that {modification}`: how SEARLE asks for a reference image, changed."""
    return Sentence("a photo of ", f" that {modification}")


def join_captions(first: str, second: str) -> str:
    """FashionIQ's two captions as one modification; the same two the other way round make the second query."""
    return " and ".join(caption.strip(".?, ") for caption in (first, second))


# Those of PALAVRA (arXiv 2204.01694), which SEARLE draws from, letter for letter ("An illustrations" too).
TEMPLATES: Final = tuple(
    Sentence.parse(text)
    for text in (
        "This is a photo of a $",
        "This photo contains a $",
        "A photo of a $",
        "This is an illustration of a $",
        "This illustration contains a $",
        "An illustrations of a $",
        "This is a sketch of a $",
        "This sketch contains a $",
        "A sketch of a $",
        "This is a diagram of a $",
        "This diagram contains a $",
        "A diagram of a $",
        "A $",
        "We see a $",
        "$",
        "We see a $ in this photo",
        "We see a $ in this image",
        "We see a $ in this illustration",
        "We see a $ photo",
        "We see a $ image",
        "We see a $ illustration",
        "$ photo",
        "$ image",
        "$ illustration",
    )
)


def phrase_prompt(concept: str) -> str:
    """What a language model continues to a phrase for L_gpt.

    SEARLE has GPT-Neo 2.7B write 256 continuations a concept: at most 35 tokens with the prompt, temperature 0.5, no
    repeated bigram.
    """
    return f"a photo of {concept} that"


def clean_phrase(text: str) -> str:
    """A continuation as SEARLE keeps it: line ends become sentence ends, and rows of full stops one."""
    return re.sub(r"\.+", ".", re.sub(r"\n+", ". ", text))


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase about a concept: the words that name it, and the rest of the phrase around them."""

    word: str
    sentence: Sentence

    @property
    def text(self) -> str:
        return self.sentence.with_word(self.word)


def phrases_of(texts: Mapping[str, Iterable[str]]) -> dict[str, tuple[Phrase, ...]]:
    """The phrases of each concept, from what a language model wrote for it.

    The concept is looked for after "a photo of " in a phrase that begins with its prompt, or else where it first
    stands as a word of its own. Phrases that do not name their concept are left out, and concepts without a phrase.
    """
    found = ((name, tuple(filter(None, (_phrase(name, text) for text in its)))) for name, its in texts.items())
    return {name: phrases for name, phrases in found if phrases}


def _phrase(concept: str, text: str) -> Phrase | None:
    start = len("a photo of ") if text.startswith(phrase_prompt(concept)) else -1
    if start < 0 and (match := re.search(rf"(?<!\w){re.escape(concept)}(?!\w)", text, re.IGNORECASE)):
        start = match.start()
    if start < 0 or not concept:
        return None
    end = start + len(concept)
    return Phrase(text[start:end], Sentence(text[:start], text[end:]))
