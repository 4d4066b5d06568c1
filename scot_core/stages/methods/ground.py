"""What a lake offers to compare methods on: one encoder, what was trained on it, and benchmarks embedded by it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from scot_core.encoders import Encoder, EncoderSpec
from scot_core.encoders.spec import embed_requests
from scot_core.errors import LakeError
from scot_core.lake import Dataset, Lake
from scot_core.lake.lineage import ancestor, parents
from scot_core.lake.promotion import combiners_in_use
from scot_core.methods import Examples, Need
from scot_core.stages.benchmark.chosen import embeddings_of
from scot_core.stages.benchmark.measure_catalogue import examples
from scot_core.stages.embed.vectors import encoder_of, made_by
from scot_core.stages.invert import phrases_in

if TYPE_CHECKING:  # loads torch
    from scot_core.searle import OtiConfig, Phrase, PseudoTokenTower
    from scot_core.vectors import Vectors

T = TypeVar("T")


@dataclass(frozen=True)
class Ground:
    """Embeddings of images by one encoder and, where one was trained on them, the Combiner that is in use."""

    lake: Lake
    images: Dataset
    combiners: Dataset | None
    before: Collection[str] = ()
    """Names of datasets that are taken before newer ones."""

    @classmethod
    def of(cls, lake: Lake, combiners: str | None = None, images: Dataset | None = None) -> Ground:
        """Of a Combiner by its key, else of the promoted or newest one, else of the newest images that are embedded.

        `images` is of another encoder than the Combiner's, perhaps: then only a Combiner of that one will do.
        Raises LakeError where nothing is embedded, or there is no such Combiner.
        """
        table = lake.table("combiners")
        known = [table.latest(key=combiners)] if combiners else [*table.matching(), *_promoted(lake)]
        if images is not None:
            known = [one for one in known if made_by(embeddings_of(lake, one)) == made_by(images)]
        if known:
            return cls(lake, embeddings_of(lake, known[-1]) if images is None else images, known[-1])
        return cls(lake, images or lake.table("embeddings").latest(stage="embed-images"), None)

    @cached_property
    def spec(self) -> EncoderSpec:
        return made_by(self.images)

    @property
    def learned_from(self) -> list[Dataset]:
        """Triplets, and the embeddings of their images and texts. Raises LakeError where there are none."""
        if self.combiners is not None:
            return parents(self.lake, self.combiners)[:3]
        for texts in reversed(self.lake.table("embeddings").matching(stage="embed-texts")):
            if made_by(texts) == self.spec:
                return [ancestor(self.lake, texts, "triplets"), self.images, texts]
        raise LakeError(f"{self.lake.url} holds no triplets embedded by encoder {self.spec.name}")

    @property
    def gallery(self) -> Dataset | None:
        """The images of the catalogue's benchmark that were drawn with the captions, where they are embedded."""
        found = self.lake.table("embeddings").matching(source=self.images.source, stage="embed-gallery")
        alike = [one for one in found if made_by(one) == self.spec and _origin(one) == _origin(self.images)]
        return alike[-1] if alike else None

    def find(self, need: Need) -> list[Dataset]:
        """What a method needs, first the dataset itself. Raises LakeError where the lake holds none that fits."""
        if need.table == "triplets":
            return self.learned_from
        if need.table == "phrases" and (tokens := self.tokens) is not None and len(tokens.inputs) > 1:
            return parents(self.lake, tokens)[1:]
        fitting = [one for one in self.lake.table(need.table).matching() if self._fits(one, need)]
        if not fitting:
            raise LakeError(f"no {need.table} of it for encoder {self.spec.name}")
        in_use = {*self.before, *([] if self.combiners is None else [self.combiners.name])}
        return [next((one for one in reversed(fitting) if one.name in in_use), fitting[-1])]

    @property
    def tokens(self) -> Dataset | None:
        """The newest images that were inverted for this encoder; queries are inverted with their settings."""
        found = [one for one in self.lake.table("pseudo_tokens").matching() if made_by(one) == self.spec]
        return next((one for one in found if one.name in self.before), found[-1] if found else None)

    def _fits(self, dataset: Dataset, need: Need) -> bool:
        if any(dataset.config.get(name) != value for name, value in need.config.items()):
            return False
        if need.table == "inverters":
            return made_by(dataset) == self.spec
        if need.table != "combiners":
            return True
        try:
            alike = made_by(embeddings_of(self.lake, dataset)) == self.spec
        except LakeError:  # what it was made from was removed: nobody can say that it fits
            return False
        return alike and (self.combiners is None or dataset.inputs[:3] == self.combiners.inputs[:3])


class LakeKnown:
    """`scot_core.methods.Known` of a lake: the encoder and what was learned are loaded when they are asked for."""

    def __init__(self, ground: Ground, seeds: Sequence[int]) -> None:
        self._ground, self._seeds = ground, tuple(seeds)

    @property
    def seeds(self) -> Sequence[int]:
        return self._seeds

    @property
    def oti(self) -> OtiConfig:
        from scot_core.searle import OtiConfig

        tokens = self._ground.tokens
        names = [field.name for field in fields(OtiConfig)]
        return OtiConfig(**({} if tokens is None else {n: tokens.config[n] for n in names if n in tokens.config}))

    @cached_property
    def encoder(self) -> Encoder:
        return encoder_of(self._ground.images)

    @cached_property
    def tower(self) -> PseudoTokenTower:
        from scot_core.searle import tower_of

        return tower_of(self.encoder)

    @cached_property
    def examples(self) -> Examples:
        return examples(*self._ground.learned_from)

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        return self.encoder.embed_texts(texts)

    def embed_requests(self, texts: Sequence[str]) -> Vectors:
        return embed_requests(self.encoder, texts, known_words=True)

    def load(self, need: Need, read: Callable[[Path], T]) -> dict[str, T]:
        dataset = self._ground.find(need)[0]
        with tempfile.TemporaryDirectory() as folder:
            dataset.files_in(Path(folder))
            return {f"seed-{seed}": read(Path(folder) / f"seed-{seed}") for seed in dataset.config["seeds"]}

    def phrases(self, need: Need) -> Mapping[str, Sequence[Phrase]]:
        return phrases_in(self._ground.find(need)[0])


def _promoted(lake: Lake) -> list[Dataset]:
    promoted = combiners_in_use(lake)
    return [] if promoted is None else [promoted]


def _origin(embeddings: Dataset) -> str | None:
    """The key of the images that were embedded; a benchmark's are drawn with the captions, under their key."""
    return embeddings.inputs[0].key if embeddings.inputs else None
