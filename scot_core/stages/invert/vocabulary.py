"""The concepts that images are named by: a file of names, the catalogue's nouns, or words of the captions."""

from __future__ import annotations

import csv
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scot_core.catalogue.language import WORDS
from scot_core.config import PhrasesConfig
from scot_core.errors import DataError
from scot_core.lake import Dataset
from scot_core.lake.fingerprint import digest
from scot_core.sources import CATALOGUE

logger = logging.getLogger(__name__)

COLUMN: Final = "DisplayName"  # of Open Images' table of classes
LONGEST = 100  # characters of a name
FEWEST = 2  # captions that hold a word


@dataclass(frozen=True)
class Vocabulary:
    """Names of concepts, each once; `of_captions` where they are words of the captions."""

    names: tuple[str, ...]
    of_captions: bool = False

    @property
    def digest(self) -> str:
        return digest("\n".join(self.names).encode())


def vocabulary_of(config: PhrasesConfig, captions: Dataset) -> Vocabulary:
    """The vocabulary for captioned images. Raises DataError for a file that is not there, is empty or holds what is
    no name, and for captions that share no word."""
    if config.vocabulary is not None:
        return Vocabulary(_read(Path(config.vocabulary).expanduser()))
    if captions.source == CATALOGUE:
        return Vocabulary(tuple(word for words in WORDS["type"].values() for word in words))
    return _of_captions(config.words, captions)


def _of_captions(most: int, captions: Dataset) -> Vocabulary:
    from scot_core.searle.keywords import keywords  # its package loads torch

    counts: Counter[str] = Counter()
    for part in captions.read_parts(["caption"]):
        for caption in part["caption"].to_pylist():
            counts.update({word for word in keywords(caption) if len(word) > 2 and not word.isdecimal()})
    ranked = sorted((-count, word) for word, count in counts.items() if count >= FEWEST)
    names = tuple(word for _, word in ranked[:most])
    if not names:
        raise DataError(
            f"{captions.name} has no word that {FEWEST} captions share: name a vocabulary (invert.phrases.vocabulary), "
            "such as Open Images' class names, or leave L_gpt out (invert.lambda_gpt=0, distill.lambda_gpt=0)"
        )
    logger.warning(
        "no vocabulary is named: the %d words that %s holds most often stand for Open Images' class names", len(names),
        captions.name,
    )  # fmt: skip
    return Vocabulary(names, of_captions=True)


def _read(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise DataError(f"the vocabulary {path} (invert.phrases.vocabulary) cannot be read: {reason}") from error
    names: dict[str, None] = {}
    for number, name in _names(text):
        name = name.strip()
        if name and (not name.isprintable() or len(name) > LONGEST):
            raise DataError(f"line {number} of the vocabulary {path} is no name of a concept: {name[:LONGEST]!r}")
        if name:
            names[name] = None
    if not names:
        raise DataError(f"the vocabulary {path} is empty: it must hold a name a line, or a column {COLUMN}")
    return tuple(names)


def _names(text: str) -> Iterator[tuple[int, str]]:
    lines = text.splitlines()
    header = next(csv.reader(lines[:1]), [])
    if COLUMN not in header:
        yield from enumerate(lines, start=1)
        return
    place = header.index(COLUMN)
    try:
        for number, row in enumerate(csv.reader(lines[1:]), start=2):
            yield number, row[place] if len(row) > place else ""
    except csv.Error as error:
        raise DataError(f"the vocabulary is a damaged CSV: {error}") from error
