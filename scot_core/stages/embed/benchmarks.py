"""FashionIQ, CIRR and CIRCO over a folder of images: embed what they need, then measure (§4.3)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from scot_core import benchmarks
from scot_core.benchmarks import Benchmark
from scot_core.benchmarks.images import ImageFiles, find_images
from scot_core.config import EmbedConfig, PublishedConfig
from scot_core.config.settings import settings
from scot_core.encoders import Encoder, EncoderSpec, load
from scot_core.encoders.pictures import embed_pictures, open_file
from scot_core.encoders.preprocessing import UNDECODABLE, upright_rgb
from scot_core.errors import DataError
from scot_core.lake import Draft, Identity, Lake, Usage
from scot_core.lake.fingerprint import digest, fingerprint
from scot_core.lake.schema import pair_id, text_id
from scot_core.stages.benchmark.measure import Vectors
from scot_core.stages.embed.datasets import spec_for
from scot_core.stages.step import Step, Tick, shard_sizes

NAMED = 5  # missing images that an error names itself


@dataclass(frozen=True)
class Published:
    """A published benchmark as it lies on this machine."""

    name: str
    whole: Benchmark
    files: ImageFiles
    text: str
    """Digest of everything that is asked, of queries and of galleries, 32 hex digits."""

    @property
    def hidden(self) -> bool:
        """True where a test server keeps the targets."""
        return not any(query.targets for query in self.whole.queries)


def open_published(config: PublishedConfig) -> Published:
    """Read the annotations and look for the images, which may be missing. Raises DataError where annotations are,
    or a folder of images that is named.
    """
    name, _, split = config.name.partition("-")
    root = Path(config.root or Path(settings().data) / name).expanduser()
    absent = benchmarks.missing_files(name, root, split or "val")
    if absent:
        source = benchmarks.SOURCES[name]
        raise DataError(
            f"{config.name} needs {', '.join(absent)} under {root}: get the annotations from {source.annotations}"
        )
    whole = benchmarks.load(name, root, split=split or "val")
    images = None if config.images is None else Path(config.images).expanduser()
    if images is not None and not images.is_dir():
        raise DataError(f"there is no folder {images} with the images of {config.name} (--images)")
    files = find_images(whole, root, images)
    asked = [[q.id, q.reference, q.modification, q.targets, q.subset, q.groups] for q in whole.queries]
    content = repr([asked, whole.galleries]).encode()
    return Published(config.name, whole, files, digest(content))


def _refusal(lake: Lake, config: PublishedConfig, images: Sequence[str], total: int, what: str) -> DataError:
    """The error about images that are not to be had; the whole list of them is left in the lake."""
    listed = f"reports/{what.split()[0]}-images-{config.name}.txt"
    lake.storage.write(listed, "".join(f"{image}\n" for image in images).encode())
    return DataError(
        f"{len(images):,} of {total:,} images of {config.name} are {what}: {', '.join(images[:NAMED])}"
        f"{', …' if len(images) > NAMED else ''} (all of them: {lake.storage.path(listed)}). Get them, or go on "
        "without (allow_missing, --allow-missing; not for submissions): they are no candidates then, and queries "
        "about them are misses"
    )


class EmbedPublished(Step):
    """Vectors of a benchmark, in shards of `shard_rows`."""

    stage, unit = "embed", "vectors"

    def __init__(self, lake: Lake, config: PublishedConfig, embed: EmbedConfig, published: Published) -> None:
        super().__init__(lake)
        self.config, self.embed, self.published = config, embed, published

    @cached_property
    def spec(self) -> EncoderSpec:
        return spec_for(self.embed)

    @cached_property
    def encoder(self) -> Encoder:
        c = self.embed
        return load(c.encoder, revision=c.revision, pooling=c.pooling, precision=c.precision, device=c.device)

    @property
    @abstractmethod
    def items(self) -> Sequence[str]:
        """What is embedded: image ids or texts."""

    def shards(self) -> Sequence[int]:
        return shard_sizes(len(self.items), self.config.shard_rows)

    def of_shard(self, shard: int) -> Sequence[str]:
        size = self.config.shard_rows
        return self.items[shard * size : (shard + 1) * size]

    def identities(self, what: str, source: str, content: Mapping[str, Any], tables: Sequence[str]) -> list[Identity]:
        config = {
            "encoder": self.embed.encoder,  # the spec says the rest of it
            **content,
            "shard_rows": self.config.shard_rows,
            "spec": self.spec.model_dump(mode="json"),
            "what": what,
        }
        identity = fingerprint("embed", EmbedConfig.STAGE_VERSION, config, [])
        stage = f"embed-{what}-{self.embed.encoder}"
        return [Identity(table, source, stage, identity, config) for table in tables]

    def write(
        self, draft: Draft, shard: int, kind: str, ids: Sequence[str], texts: Sequence[str | None], vectors: Vectors
    ) -> None:
        flat = pa.array(vectors.astype(np.float32, copy=False).ravel())
        columns = {
            "item_id": ids,
            "source": [draft.identity.source] * len(ids),
            "kind": [kind] * len(ids),
            "text": texts,
            "encoder": [self.embed.encoder] * len(ids),
            "vector": pa.FixedSizeListArray.from_arrays(flat, self.spec.dim),
        }
        draft.write_part(shard, columns)


class EmbedPublishedTexts(EmbedPublished):
    """One vector for each different modification text of a benchmark's queries."""

    def __init__(self, lake: Lake, config: PublishedConfig, embed: EmbedConfig, published: Published) -> None:
        super().__init__(lake, config, embed, published)
        self.name = f"embed texts of {config.name}"

    @property
    def outputs(self) -> Sequence[Identity]:
        texts = digest("\n".join(self.items).encode())
        return self.identities("benchmark-texts", self.config.name, {"texts": texts}, ["embeddings"])

    @property
    def items(self) -> Sequence[str]:
        return sorted({query.modification for query in self.published.whole.queries})

    def work(self, shard: int, tick: Tick) -> None:
        texts = self.of_shard(shard)
        ids = [text_id(text) for text in texts]
        self.write(self.draft(self.outputs[0]), shard, "text", ids, texts, self.encoder.embed_texts(texts))
        tick(len(texts))

    def finish(self) -> None:
        sizes = self.shards()
        self.draft(self.outputs[0]).commit(len(sizes), rows_in=sum(sizes), usage=Usage(seconds=self.seconds))


class EmbedPublishedImages(EmbedPublished):
    """One vector for each image of a benchmark; those that are not to be had are rejects, or an error.

    Splits over the same images, such as CIRCO's, share the vectors.
    """

    def __init__(self, lake: Lake, config: PublishedConfig, embed: EmbedConfig, published: Published) -> None:
        super().__init__(lake, config, embed, published)
        self.name = f"embed images of {config.name}"
        self._broken: dict[int, list[str]] = {}

    @property
    def outputs(self) -> Sequence[Identity]:
        content = {"files": self.published.files.digest, "allow_missing": self.config.allow_missing}
        source = self.config.name.partition("-")[0]
        return self.identities("benchmark-images", source, content, ["rejects", "embeddings"])

    def __enter__(self) -> Self:
        """Raises DataError, before any work, where images are missing that may not be."""
        missing = self.published.files.missing
        if missing and (self.published.hidden or not self.config.allow_missing):
            raise _refusal(self.lake, self.config, missing, len(self.items), "missing or empty")
        return self

    @property
    def items(self) -> Sequence[str]:
        return sorted(self.published.whole.image_ids)  # as the key sees them: a set

    def work(self, shard: int, tick: Tick) -> None:
        images, paths = self.of_shard(shard), self.published.files.paths
        refused = {image: ("image_missing", "no such file") for image in images if image not in paths}
        there = [image for image in images if image in paths]
        try:
            vectors = self._vectors(there, tick)
        except DataError:  # at least one is broken: find out which
            refused |= {image: why for image in there if (why := _why_broken(paths[image])) is not None}
            there = [image for image in there if image not in refused]
            vectors = self._vectors(there, lambda _: None)
        if not self.config.allow_missing and refused:
            self._broken[shard] = list(refused)  # no part is written: what is mended is embedded by the next run
            return
        tick(len(images) - len(there))
        rejects, embeddings = (self.draft(identity) for identity in self.outputs)
        rejects.write_part(shard, _reject_columns(rejects.identity.source, refused))
        self.write(embeddings, shard, "image", there, [None] * len(there), vectors)

    def finish(self) -> None:
        broken = [image for shard in sorted(self._broken) for image in self._broken[shard]]
        if broken:
            raise _refusal(self.lake, self.config, broken, len(self.items), "broken")
        rejects, embeddings = (self.draft(identity) for identity in self.outputs)
        shards = len(self.shards())
        rejected = sum(rejects.read_part(shard).num_rows for shard in range(shards))
        usage = Usage(seconds=self.seconds)
        rejects.commit(shards, rows_in=rejected, usage=usage)
        embeddings.commit(shards, rows_in=len(self.items), rejected=rejected, usage=usage)

    def _vectors(self, images: Sequence[str], tick: Tick) -> Vectors:
        openers = [partial(open_file, self.published.files.paths[image]) for image in images]
        c = self.embed
        return embed_pictures(self.encoder, openers, batch_size=c.batch_size, workers=c.workers, tick=tick)


def _reject_columns(source: str, refused: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    return {
        "pair_id": [pair_id(source, image, "") for image in refused],
        "source": [source] * len(refused),
        "stage": ["embed"] * len(refused),
        "reason": [reason for reason, _ in refused.values()],
        "raw": [f"{image}: {what}" for image, (_, what) in refused.items()],
        "tries": [1] * len(refused),
    }


def _why_broken(path: Path) -> tuple[str, str] | None:
    try:
        upright_rgb(open_file(path))
    except (DataError, *UNDECODABLE) as error:
        return "image_broken", str(error)
    return None
