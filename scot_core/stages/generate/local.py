"""Triplets for every caption, written by the tuned language model (§4.2: 290,000)."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from scot_core.config import GenerateConfig
from scot_core.lake import Dataset, Identity, Lake, Usage
from scot_core.llm.local.devices import devices as devices_here
from scot_core.llm.local.writers import Job, Weights, Writers
from scot_core.llm.plain import plain
from scot_core.stages.replies.join import Places, Row, Rows, asked_again
from scot_core.stages.replies.read import (
    CAPTION_COLUMNS,
    READ_ROWS,
    Readings,
    ReadReplies,
    parsing,
    reply_columns,
    usage_of,
)
from scot_core.stages.replies.reading import Reader
from scot_core.stages.step import Step, Tick, identities, shard_sizes
from scot_core.triplets import Style, local_prompt


class Write(Step):
    """One try of the tuned model: every caption, or those that all earlier tries were rejected for.

    Shards and batches are fixed in advance and every row has its own random numbers, so a run that was
    interrupted ends with the same bytes as one that was not, whichever of several devices of one kind wrote a shard.
    """

    stage, unit, spreads = "generate", "replies", True
    style: Style = "lines"

    def __init__(
        self, lake: Lake, config: GenerateConfig, captions: Dataset, adapters: Dataset | None,
        earlier: Sequence[Dataset] = (), devices: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(lake)
        self._devices = tuple(devices or devices_here())
        self.parallel = len(self._devices)
        self._held = ExitStack()
        self._writers: Writers | None = None
        self.config, self._captions, self._adapters, self._earlier = config, captions, adapters, earlier
        self.attempt = len(earlier) + 1
        self.name = "write triplets" if self.attempt == 1 else f"try {self.attempt} for rejects"

    @property
    def outputs(self) -> Mapping[str, Identity]:
        config: dict[str, Any] = {**self.config.identity(), "attempt": self.attempt}
        del config["attempts"]  # how many more there may be changes nothing in this one
        if self._earlier:  # what was rejected, and so what is tried again, depends on how replies are read
            config |= parsing(self.config.filter, self._captions.source)
        return identities(
            "replies", source=self._captions.source,
            label="generate" if self.attempt == 1 else f"generate-try{self.attempt}", sealed_as="generate",
            version=GenerateConfig.STAGE_VERSION, config=config,
            inputs=self._inputs,
        )  # fmt: skip

    @property
    def _inputs(self) -> list[Dataset]:
        return [self._captions, *([] if self._adapters is None else [self._adapters]), *self._earlier]

    @property
    def _model(self) -> str:
        """Column `model`."""
        assert self._adapters is not None, "only who is asked without one has none"
        return f"{self._adapters.config['base']}+{self._adapters.key}"

    @cached_property
    def _places(self) -> Places:
        """Where those lie, among all that were asked first, that every earlier try was rejected for."""
        known = self.reading(self._earlier).committed()
        rejected = None if known is None else asked_again(known["rejects"], self._earlier)
        if rejected is not None:  # generate.count asks how many triplets there are after every try
            return rejected
        read, work = Reader(self.style, self.config.filter), self.drafts["replies"].work_folder()
        readings, places = Readings(self._captions, self._earlier, read, work), [np.empty(0, np.int64)]
        for start in range(0, len(readings), READ_ROWS):
            refused = [r.reason is not None for r in readings.between(start, start + READ_ROWS)]
            places.append(start + np.flatnonzero(refused))
        return np.concatenate(places)

    def reading(self, attempts: Sequence[Dataset]) -> ReadReplies:
        """What makes triplets of the replies of tries, of which this is one or the next."""
        return ReadReplies(self.lake, "generate", "generated", self.style, self._captions, attempts, self.config.filter)

    @cached_property
    def _rows(self) -> Rows:
        return Rows(self._captions, CAPTION_COLUMNS)

    @cached_property
    def _asked(self) -> Rows:
        return Rows(self._earlier[0], ["pair_id"])

    def rows(self, shard: int) -> list[Row]:
        """The captions of a shard."""
        start, end = shard * self.config.shard_rows, (shard + 1) * self.config.shard_rows
        with self._lock:
            if not self._earlier:
                return self._rows.between(start, end)
            places = self._places[start:end].tolist()
            asked = [row["pair_id"] for place in places for row in self._asked.between(place, place + 1)]
            found = self._rows.of(asked)
            return [found[pair] for pair in asked]

    def shards(self) -> Sequence[int]:
        rows = len(self._places) if self._earlier else self._captions.rows
        return shard_sizes(rows, self.config.shard_rows)

    def work(self, shard: int, tick: Tick) -> None:
        rows = self.rows(shard)
        seeds = [row_seed(self.config.seed, self.attempt, row["pair_id"]) for row in rows]
        job = Job(
            [local_prompt(row["caption"]) for row in rows],
            seeds,
            temperature=self.config.temperature,
            max_new_tokens=self.config.max_new_tokens,
            batch_size=self.config.batch_size,
        )
        replies = self._open().write(job, tick)
        merged = [
            {**row, **asdict(plain(reply)), "seed": seed, "usd": 0.0}
            for row, reply, seed in zip(rows, replies, seeds, strict=True)
        ]
        self.drafts["replies"].write_part(shard, reply_columns(merged, "generate", self._model, self.attempt))

    def usage(self) -> Usage:
        return usage_of(map(self.drafts["replies"].read_part, range(len(self.shards()))), self.seconds)

    def _open(self) -> Writers:
        """The writers, and a copy of the adapter for as long as one of them may still have to load it."""
        with self._lock:
            if self._writers is None:
                work = self.drafts["replies"].work_folder()  # what a kill leaves there goes with the commit
                folder = Path(self._held.enter_context(tempfile.TemporaryDirectory(dir=work)))
                assert self._adapters is not None, "only who is asked without one has none"
                config = self._adapters.config
                adapter = self._adapters.files_in(folder) / "adapter"
                weights = Weights(config["base"], adapter, config["revision"])
                self._writers = self._held.enter_context(Writers(weights, self._devices))
            return self._writers

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name not in ("_held", "_writers")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        super().__setstate__(state)
        self._devices = tuple(devices_here())  # of the machine it has come to
        self._held, self._writers = ExitStack(), None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._held.close()
        self._writers = None


def row_seed(seed: int, attempt: int, pair_id: str) -> int:
    """Seed of one row's random numbers: it depends on nothing but these three."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{attempt}/{pair_id}".encode(), digest_size=7).digest(), "big")
