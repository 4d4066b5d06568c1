"""Captioned images of published data sets, or one's own, into the lake (§4.1); what is none becomes a reject."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

from scot_core.captions.directory import Directory
from scot_core.captions.images import Bad, load
from scot_core.captions.sources import readers_of
from scot_core.captions.spool import Spool, spool
from scot_core.config import CaptionsConfig
from scot_core.errors import DataError
from scot_core.lake import Identity, Lake
from scot_core.stages.step import Committed, Step, Tick, identities

VERSION = 1  # grows when readers, draw or checks change what is written


class ReadCaptions(Step):
    """Draws pairs, then checks their images: drawn entries + those that cannot be used = captions + rejects.

    An image with several captions is stored once, with the first of them; they always lie in one part.
    """

    stage, name, unit, spreads = "captions", "read captioned images", "pairs", True

    def __init__(self, lake: Lake, config: CaptionsConfig) -> None:
        """Raises ConfigError where the source needs a setting that is not there."""
        super().__init__(lake)
        self.config = config
        self._readers = readers_of(config)
        self._source = "paper" if config.source == "paper" else self._readers[0].source

    @property
    def outputs(self) -> Mapping[str, Identity]:
        return identities(
            "rejects", "captions", source=self._source, label="captions", sealed_as="captions.read", version=VERSION,
            config=self._identity,
        )  # fmt: skip

    @cached_property
    def _identity(self) -> Mapping[str, Any]:
        return {**self.config.identity(), "files": {reader.source: reader.digests() for reader in self._readers}}

    def shards(self) -> Sequence[int]:
        return self._spool.sizes

    def work(self, shard: int, tick: Tick) -> None:
        rows = self._spool.shard(shard)
        pictures = self._pictures(rows, tick)
        kept: list[dict[str, Any]] = []
        refused: list[dict[str, Any]] = []
        stored = set()
        for row in rows:
            picture = pictures.get(row["image_id"])
            if row["reason"] is not None:
                refused.append(row)
            elif isinstance(picture, Bad):
                refused.append({**row, "reason": picture.reason, "raw": picture.raw})
            else:
                data = None if row["image_id"] in stored else picture
                stored.add(row["image_id"])
                kept.append({**row, "image": {"bytes": data, "path": row["path"]}})
        self.drafts["rejects"].write_part(shard, self._reject_columns(refused))
        columns = ("pair_id", "source", "image_id", "caption", "image")
        self.drafts["captions"].write_part(shard, {name: [row[name] for row in kept] for name in columns})

    def finish(self) -> Committed:
        """Raises DataError where everything was refused."""
        rows_in, rejects = sum(self.shards()), map(self.drafts["rejects"].read_part, range(len(self.shards())))
        reasons = Counter(reason for part in rejects for reason in part["reason"].to_pylist())
        if reasons.total() == rows_in:
            for draft in self.drafts.values():  # so that the next run, with the data put right, looks again
                self.lake.storage.remove(draft.folder)
            settings = " and ".join(reader.place.setting for reader in self._readers)
            why = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common()) or "there are none"
            raise DataError(f"not one of {rows_in:,} entries is a captioned image ({why}); look at {settings}")
        return super().finish()

    def _pictures(self, rows: Sequence[Mapping[str, Any]], tick: Tick) -> dict[str, bytes | Bad]:
        """Every image of some rows, read and checked once; ticks for all of the rows."""
        drawn = {row["image_id"]: row for row in rows if row["reason"] is None}
        count = Counter(row["image_id"] for row in rows if row["reason"] is None)
        tick(len(rows) - count.total())
        pictures: dict[str, bytes | Bad] = {}
        for image_id, picture in zip(drawn, self._pool.map(self._load, drawn.values()), strict=True):
            pictures[image_id] = picture
            tick(count[image_id])
        return pictures

    def _load(self, row: Mapping[str, Any]) -> bytes | Bad:
        return load(self._images[row["source"]], row["path"])

    def _reject_columns(self, refused: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        columns = {name: [row[name] for row in refused] for name in ("pair_id", "source", "reason", "raw")}
        return {**columns, "stage": ["captions"] * len(refused), "tries": [1] * len(refused)}

    @cached_property
    def _images(self) -> dict[str, Directory]:
        return {reader.source: reader.images for reader in self._readers}

    @cached_property
    def _spool(self) -> Spool:
        _ = self._images  # says that their folder is missing before anything is read
        config = self.config
        return spool(
            self._readers,
            self.drafts["captions"].work_folder(),
            seed=config.seed,
            one_per_image=config.captions_per_image == "one",
            shard_rows=config.shard_rows,
        )

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        # threads: reading waits, and Pillow decodes without the interpreter's lock
        return ThreadPoolExecutor(self.config.workers, thread_name_prefix="captions")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_pool"}

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if "_pool" in self.__dict__:
            self._pool.shutdown(wait=error is None, cancel_futures=True)
