"""What a method of composed retrieval is: what it needs, and how it makes query vectors of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:  # loads torch
    from scot_core.searle import OtiConfig, Phrase, PseudoTokenTower
    from scot_core.vectors import Vectors

T = TypeVar("T")


@dataclass(frozen=True)
class Queries:
    """Composed queries, Q of them: reference images as embeddings, and modification texts."""

    ids: Sequence[str]
    """Of the reference images."""
    images: Vectors
    """(Q, D) embeddings of the reference images."""
    modifications: Sequence[tuple[str, ...]]
    """The texts of each query as they are published: one, or FashionIQ's two."""
    embed: Callable[[], Vectors]
    """Gives the texts' embeddings, (Q, D); asked for at most once, by methods that look at them."""

    @property
    def requests(self) -> list[str]:
        """Each query's texts as one."""
        return [" and ".join(texts) for texts in self.modifications]

    @cached_property
    def texts(self) -> Vectors:
        """(Q, D) embeddings of the modification texts."""
        return self.embed()


Compose = Callable[[Queries], "Vectors"]
"""Query vectors (Q, D), L2-normalised; a row depends on its own query alone, up to rounding."""


@dataclass(frozen=True, slots=True)
class Need:
    """A dataset that a method was trained into, or chooses a number on."""

    table: str
    made_by: str
    """The command that makes one."""
    config: Mapping[str, str] = field(default_factory=dict)
    """What the dataset's configuration says."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Vectors of training triplets, (N, D) each, and of the training images (G, D): no benchmark is among them."""

    image: Vectors
    text: Vectors
    target: Vectors
    """Of the modified captions."""
    gallery: Vectors


class Known(Protocol):
    """What a lake and its encoder offer a method. All of it is read when it is asked for."""

    @property
    def tower(self) -> PseudoTokenTower:
        """The encoder's text tower. Raises ConfigError for an encoder that does not give it to pseudo-tokens."""
        ...

    @property
    def examples(self) -> Examples:
        """Raises LakeError where the lake holds no triplets with their vectors."""
        ...

    @property
    def seeds(self) -> Sequence[int]:
        """Of methods that draw something when they are asked."""
        ...

    @property
    def oti(self) -> OtiConfig:
        """How references are inverted."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """(n, D) float32, L2-normalised, by the encoder."""
        ...

    def embed_requests(self, texts: Sequence[str]) -> Vectors:
        """The same, of the texts in words that the encoder knows, where it can tell."""
        ...

    def load(self, need: Need, read: Callable[[Path], T]) -> dict[str, T]:
        """What `read` makes of each folder of weights in the dataset that is needed, by run: `seed-0`."""
        ...

    def phrases(self, need: Need) -> Mapping[str, Sequence[Phrase]]:
        """The phrases of each concept of the vocabulary."""
        ...


@dataclass(frozen=True, slots=True)
class Ready:
    """A method with what it learned: its name in tables, and what composes, by run; one run without a name where
    nothing was drawn. Several runs (seeds) are averaged query by query."""

    shown: str
    runs: Mapping[str, Compose]


@dataclass(frozen=True, slots=True)
class Method:
    """A way to compose queries. It shares everything with the others but what stands here."""

    name: str
    about: str
    """What the query vector is, in a line."""
    source: str
    ready: Callable[[Known], Ready]
    needs: Sequence[Need] = ()
    words: bool = False
    """Whether it writes a pseudo-token into a sentence, which the encoder's text tower must read."""
    draws: bool = False
    """Whether it draws something when it is asked, once for each of `Known.seeds`."""
