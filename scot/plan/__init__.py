"""What a profile would do, without doing any of it: what is cached, how much work is left, what it costs at least,
the prompts as they would be sent, and what is missing on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from scot.plan.methods import methods_left
from scot.plan.needs import missing
from scot.plan.state import State, kept_in, look, stages_to
from scot.plan.work import Known, StageWork, work
from scot_core.config import Pipeline
from scot_core.lake import Dataset, Lake
from scot_core.stages.replies.read import CAPTION_COLUMNS
from scot_core.stages.seed.ask import choose
from scot_core.triplets import EXAMPLES, chat_messages, local_prompt

PROMPTS = 3
OVER = ("cached", "skipped")


@dataclass(frozen=True)
class Plan:
    """The answer, stage by stage. `left` holds the work of stages that are not cached."""

    works: Sequence[StageWork]
    states: Sequence[State]
    prompts: Sequence[Sequence[Mapping[str, str]]]
    """Three chat prompts of the seed stage, message by message; none where triplets are mined."""
    local_prompts: Sequence[str]
    """The same captions as the tuned model gets them."""
    captions_from: str
    missing: Sequence[str]
    methods: Sequence[str] = ()
    """How far the comparison of methods is."""

    @property
    def left(self) -> list[StageWork]:
        over = {state.stage for state in self.states if state.state in OVER}
        return [stage for stage in self.works if stage.stage not in over]

    def as_json(self) -> dict[str, Any]:
        stages = [
            {**asdict(stage), "state": state.state, "detail": state.detail}
            for stage, state in zip(self.works, self.states, strict=True)
        ]
        return {
            "stages": stages,
            "prompts": self.prompts,
            "local_prompts": self.local_prompts,
            "captions_from": self.captions_from,
            "missing": self.missing,
            "methods": self.methods,
        }


def make_plan(
    lake: Lake, pipeline: Pipeline, counted: int | None = None, last: str | None = None, asked: int | None = None
) -> Plan:
    """Look at lake and machine; nothing is run, written or sent.

    `counted` is how many captioned images there are where they were counted and are not in the lake yet; stages after
    `last` are left out. `asked` is how many to plan for, each with an image of its own, whatever there is.

    Raises LakeError where the lake is damaged.
    """
    found, stages = look(lake, pipeline, last), stages_to(pipeline, last)
    known = found.known
    known = known if known.pairs else replace(known, pairs=counted, images=counted)
    if asked is not None:
        known = Known(asked, asked, known.caption_bytes)
    source = found.captions.source if found.captions else pipeline.captions.source
    works = work(pipeline, replace(known, kept=kept_in(lake, source)))
    works = [stage for stage in works if stage.stage in stages]
    over = {state.stage for state in found.states if state.state in OVER}
    captions, origin = (
        _captions(found.captions, pipeline) if pipeline.generate.needs_adapter and "seed" in stages else ([], "nobody")
    )
    return Plan(
        works,
        found.states,
        [chat_messages(caption, pipeline.seed.prompt) for caption in captions],
        [local_prompt(caption) for caption in captions],
        origin,
        missing(pipeline, [stage for stage in works if stage.stage not in over], lake.url, stages),
        list(methods_left(lake)),
    )


def _captions(dataset: Dataset | None, pipeline: Pipeline) -> tuple[list[str], str]:
    """Three captions: the first of those that seeds would be asked for, where captions are in the lake."""
    if dataset is None or dataset.rows < PROMPTS:
        return [caption for caption, _, _ in EXAMPLES[:PROMPTS]], "the worked examples, since no captions are here yet"
    rows = choose(dataset.each(CAPTION_COLUMNS), PROMPTS, pipeline.seed.seed)
    return [row["caption"] for row in rows], dataset.name
