"""FashionIQ, CIRR and CIRCO over a folder of images: what of them is embedded (§4.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from scot_core import benchmarks
from scot_core.benchmarks import Benchmark, own
from scot_core.benchmarks.images import ImageFiles, find_images
from scot_core.config import EmbedConfig, PublishedConfig
from scot_core.config.settings import settings
from scot_core.encoders import EncoderSpec
from scot_core.encoders.decoding import open_file
from scot_core.errors import ConfigError, DataError
from scot_core.lake import Identity, Lake
from scot_core.lake.fingerprint import digest
from scot_core.stages.embed.images import EmbedImages, Images, Item, Shard
from scot_core.stages.embed.step import Identify
from scot_core.stages.embed.texts import EmbedTexts
from scot_core.stages.step import identities, shard_sizes

NAMED = 5  # missing images that an error names itself


@dataclass(frozen=True)
class Published:
    """A published benchmark as it lies on this machine."""

    name: str
    whole: Benchmark
    files: ImageFiles
    text: str
    """Digest of everything that is asked, of queries and of galleries, 32 hex digits."""
    bad: Sequence[own.BadRow] = ()
    """Rows of a table of one's own that make no query."""

    @property
    def hidden(self) -> bool:
        """True where a test server keeps the targets."""
        return not any(query.targets for query in self.whole.queries)


def open_published(config: PublishedConfig) -> Published:
    """Read the annotations and look for the images, which may be missing. Raises DataError where annotations are,
    or a folder of images that is named.
    """
    if config.name == own.NAME:
        return _open_own(config)
    name, split = config.variant.benchmark, config.variant.split
    root = Path(config.root or Path(settings().data) / name).expanduser()
    absent = benchmarks.missing_files(name, root, split)
    if absent:
        source = benchmarks.SOURCES[name]
        raise DataError(
            f"{config.name} needs {', '.join(absent)} under {root}: get the annotations from {source.annotations}"
        )
    whole = benchmarks.load(name, root, split=split)
    images = None if config.images is None else Path(config.images).expanduser()
    if images is not None and not images.is_dir():
        raise DataError(f"there is no folder {images} with the images of {config.name} (--images)")
    files = find_images(whole, root, images)
    return Published(config.name, whole, files, digest(repr([_asked(whole), whole.galleries]).encode()))


def _open_own(config: PublishedConfig) -> Published:
    if not config.queries or not config.images:
        raise ConfigError("benchmark own needs a table of reference, text and target (queries) and a folder (images)")
    gallery = Path(config.images).expanduser()
    read = own.load(config.queries, gallery)
    whole, bad = read.benchmark, [[row.where, row.reason] for row in read.bad]
    text = digest(repr([_asked(whole), whole.galleries, bad]).encode())
    return Published(config.name, whole, find_images(whole, gallery), text, read.bad)


def _asked(whole: Benchmark) -> list[list[Any]]:
    return [[q.id, q.reference, q.modification, q.targets, q.subset, q.groups] for q in whole.queries]


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


def embed_benchmark_images(
    lake: Lake, config: PublishedConfig, embed: EmbedConfig, published: Published
) -> EmbedImages:
    """The images of a benchmark; those that are not to be had are rejects, or an error.

    Splits over the same images, such as CIRCO's, share the vectors.
    """
    source = config.variant.benchmark
    ids, files = sorted(published.whole.image_ids), published.files  # sorted, as the key sees them: a set
    content = {"files": files.digest, "allow_missing": config.allow_missing}

    def shard(index: int) -> Shard:
        images = ids[index * config.shard_rows : (index + 1) * config.shard_rows]
        items = [
            Item(source, image, partial(open_file, files.paths[image])) for image in images if image in files.paths
        ]
        refused = {image: ("image_missing", "no such file") for image in images if image not in files.paths}
        return Shard(items, refused)

    def refusal(images: Sequence[str], what: str) -> DataError:
        return _refusal(lake, config, images, len(ids), what)

    images = Images(
        sizes=lambda: shard_sizes(len(ids), config.shard_rows),
        shard=shard,
        one_each=True,
        rejects=True,
        refusal=refusal if published.hidden or not config.allow_missing else None,
        missing=files.missing,
    )
    identify = _of_benchmark(config, embed, "benchmark-images", source, content, ("rejects", "embeddings"))
    return EmbedImages(lake, embed, f"embed images of {config.name}", identify, images)


def embed_benchmark_texts(lake: Lake, config: PublishedConfig, embed: EmbedConfig, published: Published) -> EmbedTexts:
    """Each different modification text of a benchmark's queries."""
    texts = sorted({query.modification for query in published.whole.queries})
    content = {"texts": digest("\n".join(texts).encode())}
    identify = _of_benchmark(config, embed, "benchmark-texts", config.name, content, ("embeddings",))
    name = f"embed texts of {config.name}"
    return EmbedTexts(lake, embed, name, identify, config.name, config.shard_rows, lambda: [pa.array(texts)])


def _of_benchmark(
    config: PublishedConfig, embed: EmbedConfig, what: str, source: str, content: Mapping[str, Any],
    tables: Sequence[str],
) -> Identify:  # fmt: skip
    """How the vectors of a benchmark are named, wherever its files lie."""

    def identify(spec: EncoderSpec) -> Mapping[str, Identity]:
        sent = {
            "encoder": embed.encoder,  # the spec says the rest of it
            **content,
            "shard_rows": config.shard_rows,
            "spec": spec.model_dump(mode="json"),
            "what": what,
        }
        return identities(
            *tables, source=source, label=f"embed-{what}-{embed.encoder}", sealed_as="embed",
            version=EmbedConfig.STAGE_VERSION, config=sent,
        )  # fmt: skip

    return identify
