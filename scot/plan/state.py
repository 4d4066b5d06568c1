"""What is in the lake of a profile already: the recipes are walked until something is not there, and nothing runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from scot.plan.work import Known
from scot_core.config import STAGES, Pipeline, last_stage
from scot_core.errors import LakeError, ScotError
from scot_core.lake import Dataset, Lake
from scot_core.stages import recipes
from scot_core.stages.step import Committed, Work


class NotThereError(Exception):
    """The first step of a stage that is not committed."""

    def __init__(self, step: Work) -> None:
        super().__init__(step.name)
        self.step = step


@dataclass(frozen=True, slots=True)
class State:
    """How far a stage is: `cached`, `begun` (some shards are there), `to do`, `waits` for one before, or `skipped`."""

    stage: str
    state: str
    detail: str = ""


@dataclass
class Found:
    """What the walk met: how far each stage is, and what those that are done have made."""

    states: list[State]
    made: dict[str, Dataset] = field(default_factory=dict)

    @property
    def captions(self) -> Dataset | None:
        return self.made.get("captions")

    @property
    def known(self) -> Known:
        """Counts of what was met."""
        captions, triplets = self.captions, self.made.get("generate")
        if captions is None:
            return Known()
        table = captions.read(["image_id", "caption"])
        lengths = [len(text.encode()) for text in table["caption"].to_pylist()]
        return Known(
            pairs=table.num_rows,
            images=len(set(table["image_id"].to_pylist())),
            caption_bytes=sum(lengths) / max(len(lengths), 1),
            triplets=None if triplets is None else triplets.rows,
        )


def kept_in(lake: Lake, source: str) -> dict[str, float]:
    """Share of the replies of one try that are triplets, by stage: of the newest ones of this source."""
    shares = {}
    for stage in ("seed", "generate"):
        made = lake.table("triplets").matching(source=source, stage=stage)
        read = [d for d in made if d.rows and {each.table for each in d.inputs} == {"replies"}]
        if read:  # each input is a try of what the ones before it were rejected for
            rejected = read[-1].rejected / read[-1].manifest.rows.given
            shares[stage] = 1 - rejected ** (1 / len(read[-1].inputs))
    return shares


def look(lake: Lake, pipeline: Pipeline, last: str | None = None) -> Found:
    """Walk the stages in order, to the last that is asked about; what needs a dataset that is not there waits.

    Raises LakeError for a damaged lake.
    """
    found = Found([])
    walk = recipes.walk(_committed, lake, pipeline)
    waiting = False
    for stage in stages_to(pipeline, last):
        if not pipeline.generate.needs_adapter and stage in ("seed", "finetune"):
            found.states.append(State(stage, "skipped"))
            if not waiting:
                next(walk)
            continue
        if waiting:
            found.states.append(State(stage, "waits"))
            continue
        try:
            made = next(walk)
            assert made is not None, "only what is skipped above makes nothing"
            found.made[stage] = made
            found.states.append(State(stage, "cached"))
        except NotThereError as there:
            found.states.append(_begun(stage, there.step))
            waiting = True
        except LakeError:
            raise
        except ScotError as error:  # data, weights or a key that this machine lacks: said under what is missing
            found.states.append(State(stage, "to do", str(error).split("\n")[0]))
            waiting = True
    return found


def stages_to(pipeline: Pipeline, last: str | None) -> list[str]:
    """The stages that a pipeline asks for, up to the last that is asked about."""
    end = STAGES.index(last_stage(last))
    return [stage for stage in pipeline.stages if STAGES.index(stage) <= end]


def _committed(step: Work) -> Committed:
    found = step.committed()
    if found is None:
        raise NotThereError(step)
    return found


def _begun(stage: str, step: Work) -> State:
    """Shards are counted by their files: asking the step for its shards may read all of its input."""
    names = step.lake.storage.names(step.folder)
    parts = sum(name.startswith("part-") and name.endswith(".parquet") for name in names)
    kept = "_journal" in names
    if not parts and not kept:
        return State(stage, "to do", step.name)
    what = f"parts of {step.name!r} that are there: {parts:,}" if parts else f"{step.name!r} has replies in its journal"
    return State(stage, "begun", what)
