"""One's own captioned images into the lake, with every entry that is none as a reject."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from scot_core.captions.folder import Entry, Picture, Refusal, check_caption, check_image, entries
from scot_core.config import CaptionsConfig
from scot_core.errors import ConfigError
from scot_core.fingerprint import digest, fingerprint
from scot_core.lake import Identity, Lake, Usage
from scot_core.schema import pair_id
from scot_core.stages.step import Step, Tick, shard_sizes


class ReadFolder(Step):
    """Rows of the table = captions + rejects, shard by shard."""

    stage, name, unit = "captions", "read captioned images", "images"

    def __init__(self, lake: Lake, config: CaptionsConfig) -> None:
        super().__init__(lake)
        if config.path is None:
            raise ConfigError("captions.source is folder, but captions.path names no table of (image, caption)")
        self.config, self._table = config, Path(config.path)

    @cached_property
    def _entries(self) -> list[Entry]:
        return entries(self._table)

    @property
    def outputs(self) -> Sequence[Identity]:
        _ = self._entries  # says what is wrong with the table before anything else does
        used = ("source", "path", "shard_rows")
        config = {**{name: getattr(self.config, name) for name in used}, "table": digest(self._table.read_bytes())}
        identity = fingerprint("captions", CaptionsConfig.STAGE_VERSION, config, [])
        return [Identity(table, self._source, "captions", identity, config) for table in ("rejects", "captions")]

    @property
    def _source(self) -> str:
        name = "".join(c if c.isalnum() else "-" for c in self._table.parent.resolve().name.lower())
        return f"own-{name}"

    def shards(self) -> Sequence[int]:
        return shard_sizes(len(self._entries), self.config.shard_rows)

    def work(self, shard: int, tick: Tick) -> None:
        size = self.config.shard_rows
        rejects, captions = (self.draft(identity) for identity in self.outputs)
        seen = {(e.image, e.caption) for e in self._entries[: shard * size]}
        kept: list[dict[str, Any]] = []
        refused: list[tuple[str, Refusal]] = []
        for entry in self._entries[shard * size : (shard + 1) * size]:
            identity = pair_id(self._source, entry.image, entry.caption)
            result = self._check(entry, (entry.image, entry.caption) in seen)
            seen.add((entry.image, entry.caption))
            if isinstance(result, Refusal):
                refused.append((identity, result))
            else:
                image = {"bytes": result.data, "path": entry.image}
                kept.append({"pair_id": identity, "image_id": entry.image, "caption": entry.caption, "image": image})
            tick(1)
        rejects.write_part(shard, self._reject_columns(refused))
        columns = {name: [row[name] for row in kept] for name in ("pair_id", "image_id", "caption", "image")}
        captions.write_part(shard, {**columns, "source": [self._source] * len(kept)})

    def finish(self) -> None:
        rejects, captions = (self.draft(identity) for identity in self.outputs)
        shards = len(self.shards())
        rejected = sum(rejects.read_part(shard).num_rows for shard in range(shards))
        usage = Usage(seconds=self.seconds)
        rejects.commit(shards, rows_in=rejected, usage=usage)
        captions.commit(shards, rows_in=len(self._entries), rejected=rejected, usage=usage)

    def _check(self, entry: Entry, repeated: bool) -> Picture | Refusal:
        if repeated:
            return Refusal("duplicate_pair", f"{entry.image}: {entry.caption}")
        return check_caption(entry.caption) or check_image(self._table.parent, entry.image)

    def _reject_columns(self, refused: Sequence[tuple[str, Refusal]]) -> dict[str, Any]:
        return {
            "pair_id": [identity for identity, _ in refused],
            "source": [self._source] * len(refused),
            "stage": ["captions"] * len(refused),
            "reason": [refusal.reason for _, refusal in refused],
            "raw": [refusal.raw for _, refusal in refused],
            "tries": [1] * len(refused),
        }
