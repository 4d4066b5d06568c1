"""`scot/regenerate`: everything, in the order of Figure 2.

Left of the figure: captions, an LLM that writes edits, frozen encoders, and the Combiner trained on them.
Right of it: composed queries against a gallery of images.
"""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.captions import captions
from flows.common import open_lake
from flows.embed import embed
from flows.finetune import finetune
from flows.generate import generate
from flows.seed import seed
from flows.stages import Stages, Where
from flows.train import train
from scot_core.config import ProfileName, StageName, last_stage, profile, with_overrides
from scot_core.lake.generations import record
from scot_core.stages.recipes import settings_of


@flow(name="scot", flow_run_name="regenerate {profile_name}")
def regenerate(
    profile_name: ProfileName = "catalogue",
    overrides: list[str] | None = None,
    until: StageName | None = None,
    lake: str | None = None,
    where: Where = "inline",
) -> State:
    """Run every stage of a profile; what is committed already is reused. Only keys pass from one stage to the next.

    Args:
        profile_name: smoke (a minute, for tries), catalogue (the whole job on a drawn world) or paper (docs/paper.md).
        overrides: settings over the profile's, such as train.steps=300.
        until: the last stage that is run, by default all are.
        lake: path or URL of the lake, by default SCOT_LAKE of the worker.
        where: inline, all stages in one process, or deployments, each stage on its own pool.
    """
    plan = with_overrides(profile(profile_name), overrides or [])
    stage = Stages(where, lake, last=last_stage(until))

    pictures = stage(captions, plan.captions)
    if plan.generate.is_mined:
        written = stage(generate, plan.generate, captions=pictures["captions"])
    else:
        seeds = stage(seed, plan.seed, captions=pictures["captions"])
        adapter = stage(finetune, plan.finetune, captions=pictures["captions"], seeds=seeds["triplets"])
        written = stage(generate, plan.generate, captions=pictures["captions"], adapter=adapter["adapters"])
    vectors = stage(embed, plan.embed, **pictures, **written)
    stage(train, plan.train, benchmark=plan.benchmark, **written, **vectors)

    record(open_lake(lake), stage.keys, settings_of(profile_name, overrides or [], until, plan))
    return stage.ended()
