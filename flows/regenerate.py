"""`scot/regenerate`: everything, in the order of Figure 2.

Left of the figure: captions, an LLM that writes edits, frozen encoders, and the Combiner trained on them.
Right of it: composed queries against a gallery of images.
"""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from flows.captions import captions
from flows.common import open_lake
from flows.distill import distill
from flows.embed import embed
from flows.finetune import finetune
from flows.fit import fit
from flows.generate import generate
from flows.invert import invert
from flows.seed import seed
from flows.stages import Stages, Where
from flows.train import train
from scot_core.config import Pipeline, ProfileName, StageName, last_stage, profile, with_overrides
from scot_core.errors import ConfigError
from scot_core.lake.generations import find, record
from scot_core.lake.promotion import promote as put_into_use
from scot_core.stages import preflight
from scot_core.stages.recipes import settings_of
from tasks.check import check_lake
from tasks.generation import name_runs, summary_artifact, tell_of
from tasks.states import in_words


@flow(name="scot", flow_run_name="regenerate {profile_name}")
@in_words
def regenerate(
    profile_name: ProfileName = "catalogue",
    overrides: list[str] | None = None,
    until: StageName | None = None,
    lake: str | None = None,
    where: Where = "inline",
    promote: bool = False,
    check: bool = False,
    anyway: bool = False,
) -> State:
    """Run every stage of a profile; what is committed already is reused. Only keys pass from one stage to the next.

    Args:
        profile_name: smoke (a minute, for tries), catalogue (the whole job on a drawn world), paper or paper-searle
            (docs/paper.md).
        overrides: settings over the profile's, such as train.steps=300.
        until: the last stage that is run, by default all are that the profile or the overrides ask for.
        lake: path or URL of the lake, by default SCOT_LAKE of the worker.
        where: inline, all stages in one process, or deployments, each stage on its own pool.
        promote: put the generation into use at the end, unless a gate such as benchmark.max_drop stops it before.
        check: compare the lake with what was committed before anything else, and stop where it is damaged.
        anyway: go on with captions of one's own that encoder, teacher or language model do not fit.
    """
    plan = with_overrides(profile(profile_name), overrides or []).asking_for(until)
    last, place = last_stage(until, profile_name), open_lake(lake)
    if promote and last != last_stage(None):
        raise ConfigError(
            f"a run until {until} makes no generation that can be put into use: leave until or promote out"
        )
    if check:
        check_lake(place)
    if not anyway and where == "inline":  # deployments may have other machines: each stage looks where it runs
        preflight.require(place, plan)
    stage = Stages(where, lake, last=last)
    try:
        _figure_2(stage, plan, anyway=anyway or where == "inline")
        made = record(place, stage.keys, settings_of(profile_name, overrides or [], until, plan))
        for generation in made[:1]:  # of several benchmarks, one: they measure the same Combiner
            if promote:
                put_into_use(place, find(place, generation))
            name_runs([ran.run for ran in stage.ran], generation)
            if last == last_stage(None, profile_name) and not stage.cached:
                tell_of(generation)
        return stage.ended()
    finally:
        summary_artifact(place, stage.ran, stage.keys)


def _figure_2(stage: Stages, plan: Pipeline, *, anyway: bool) -> None:
    pictures = stage(captions, plan.captions)
    words: dict[str, str] = {}
    if plan.invert is not None:
        words = stage(invert, plan.invert, encoder=plan.embed, captions=pictures["captions"])
    if plan.distill is not None:
        learned_from = {"tokens": words["tokens"]} if plan.distill.method == "searle" else {}
        stage(distill, plan.distill, encoder=plan.embed, captions=pictures["captions"], **learned_from)
    if not plan.generate.needs_adapter:
        written = stage(generate, plan.generate, captions=pictures["captions"])
    else:
        seeds = stage(seed, plan.seed, captions=pictures["captions"], anyway=anyway)
        tuned_on = {"captions": pictures["captions"], "seeds": seeds["triplets"]}
        adapter = stage(finetune, plan.finetune, **tuned_on, anyway=anyway)
        written = stage(generate, plan.generate, captions=pictures["captions"], adapter=adapter["adapters"])
    fitted = {}
    if plan.embed.is_to_fit:
        fitted = stage(fit, plan.fit, generate=plan.generate, captions=pictures["captions"])
    vectors = stage(embed, plan.embed, **pictures, **written, **fitted, anyway=anyway)
    stage(train, plan.train, benchmark=plan.benchmark, **written, **vectors)
