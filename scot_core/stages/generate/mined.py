"""Triplets mined from the captions themselves: no seeds, no language model, no grammar of a data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from scot_core.benchmarks.mined import HeldOut, hold_out
from scot_core.config import GenerateConfig
from scot_core.errors import LakeError
from scot_core.lake import Dataset, Identity, Lake
from scot_core.sources import held_out_of, keyed
from scot_core.stages.replies.read import CAPTION_COLUMNS
from scot_core.stages.replies.reading import HELD_OUT
from scot_core.stages.step import Committed, Step, Tick, identities
from scot_core.triplets import PARSER_VERSION
from scot_core.triplets.mining import MODEL, MinedEdit, Unmined, mine


class MineTriplets(Step):
    """Up to `edits_per_caption` triplets of every captioned image that is not held out.

    A row is one candidate edit: a triplet, or a reject with its reason. How many candidates there are is known from
    the mining alone; what is checked is that every captioned image has a row in the one table or the other. An image
    that is held out, or whose caption leads nowhere, is one reject.
    """

    stage, name, unit = "generate", "mine triplets", "captions"

    def __init__(self, lake: Lake, config: GenerateConfig, captions: Dataset) -> None:
        super().__init__(lake)
        self.config, self._captions = config, captions

    @property
    def outputs(self) -> Mapping[str, Identity]:
        config = {**self.config.identity(), "parser": PARSER_VERSION, "model": MODEL}
        config |= keyed(self._captions.source)
        return identities(
            "rejects", "triplets", source=self._captions.source, label="generate", sealed_as="generate.mined",
            version=1, config=config, inputs=[self._captions],
        )  # fmt: skip

    @cached_property
    def _rows(self) -> dict[str, Mapping[str, Any]]:
        return {row["pair_id"]: row for row in self._captions.read(CAPTION_COLUMNS).to_pylist()}

    def shards(self) -> Sequence[int]:
        return [self._captions.rows]  # captions that differ in one span may lie anywhere

    def rows_in(self) -> None:
        """Candidate edits: as many as there are."""

    def work(self, shard: int, tick: Tick) -> None:
        held = held_out(self._captions, self.config.held_out, self.config.seed)
        kept: list[MinedEdit] = []
        refused: list[Unmined] = []
        seen: set[str] = set()
        for outcome in self._outcomes(held):
            (kept if isinstance(outcome, MinedEdit) else refused).append(outcome)  # type: ignore[arg-type]
            if outcome.pair_id not in seen:
                seen.add(outcome.pair_id)
                tick(1)
        self.drafts["rejects"].write_part(shard, self._reject_columns(refused))
        self.drafts["triplets"].write_part(shard, self._triplet_columns(kept))

    def finish(self) -> Committed:
        """Raises LakeError where a captioned image is in neither table."""
        parts = [draft.read_part(0)["pair_id"].to_pylist() for draft in self.drafts.values()]
        lost = self._rows.keys() - set().union(*parts)
        if lost:
            raise LakeError(
                f"{len(lost):,} captioned images of {self._captions.name} made neither a triplet nor a reject; "
                "nothing was committed. This is a defect of the stage: please report it"
            )
        return super().finish()

    def _outcomes(self, held: HeldOut) -> Iterator[MinedEdit | Unmined]:
        rule, taught = held_out_of(self._captions.source), []

        def shows(caption: str) -> bool:
            """Whether it names what the source's benchmark holds out: edits have no words that their ends have not."""
            return rule is not None and rule.shows(caption, "", "")

        for pair, row in self._rows.items():
            if held.trains(row["image_id"], row["caption"]) and not shows(row["caption"]):
                taught.append((pair, row["caption"]))
            else:
                yield Unmined(pair, row["caption"], HELD_OUT, "")
        yield from mine(
            taught,
            per_caption=self.config.edits_per_caption,
            seed=self.config.seed,
            work=self.drafts["triplets"].work_folder(),
            allowed=lambda caption: not held.holds(caption) and not shows(caption),
        )

    def _triplet_columns(self, edits: Sequence[MinedEdit]) -> dict[str, Any]:
        rows = [self._rows[edit.pair_id] for edit in edits]
        return {
            **{name: [row[name] for row in rows] for name in CAPTION_COLUMNS},
            "kind": ["generated"] * len(edits),
            "modification": [edit.modification for edit in edits],
            "modified_caption": [edit.modified_caption for edit in edits],
            "model": [MODEL] * len(edits),
        }

    def _reject_columns(self, refused: Sequence[Unmined]) -> dict[str, Any]:
        return {
            "pair_id": [each.pair_id for each in refused],
            "source": [self._rows[each.pair_id]["source"] for each in refused],
            "stage": ["generate"] * len(refused),
            "reason": [each.reason for each in refused],
            "raw": [each.raw or each.caption for each in refused],
            "tries": [1] * len(refused),
        }


def held_out(captions: Dataset, share: float, seed: int) -> HeldOut:
    """The captioned images that mined triplets are kept away from."""
    rows = captions.read(["image_id", "caption"])
    return hold_out(list(zip(*(column.to_pylist() for column in rows.columns), strict=True)), share, seed)
