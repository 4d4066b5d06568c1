"""Commands that work: `scot run`, `plan`, `benchmark` and `merge`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, validators

from scot.choose import choose, require_fit, show_parts
from scot.chosen import Chosen
from scot.lines import progress_on
from scot.methods import AgainstOption, MethodOption, measure_published
from scot.options import CaptionsOption, JsonOption, LakeOption, err, lake_at, out, require_prefect
from scot.terminal import benchmark_tables, reported_table, say, show_plan
from scot_core.config import (
    PROFILES,
    STAGES,
    EmbedConfig,
    Pipeline,
    PublishedConfig,
    last_stage,
    validated,
    with_overrides,
)
from scot_core.config import (
    profile as profile_of,
)
from scot_core.errors import ConfigError, ScotError
from scot_core.lake import Lake
from scot_core.paper import VALIDATION
from scot_core.report.pictures import leave_pictures

ProfileOption = Annotated[
    str, Parameter(name="--profile", help=f"{', '.join(PROFILES)}: in a minute, the demo, the two papers.")
]
LlmOption = Annotated[
    str | None,
    Parameter(
        name="--llm",
        help="The language model that is tuned: smollm2 (after `make smollm`), a folder, or a hub id (with "
        "--set finetune.revision=COMMIT); default the profile's.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    Parameter(
        name="--set",
        negative="",
        help="A setting, such as train.steps=300. May be given several times; `scot settings` lists them.",
    ),
]


def run(
    *,
    profile: ProfileOption = "catalogue",
    until: Annotated[str | None, Parameter(help=f"The last stage to run: {', '.join(STAGES)}.")] = None,
    captions: CaptionsOption = None,
    llm: LlmOption = None,
    set_: SetOption = None,
    lake: LakeOption = None,
    promote: Annotated[bool, Parameter(negative="")] = False,
    anyway: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Run every stage of a profile here; what is committed already is reused.

    Stop it at any time with Ctrl-C and run the same command again: it goes on where it was.

    Parameters
    ----------
    promote
        Put the generation into use at the end, unless a gate stops the run before (see `scot settings`: min_kept,
        min_right, max_usd, max_drop).
    anyway
        Go on with captions of one's own where encoder or teacher do not fit them.
    """
    chosen = choose(captions, _overrides(llm, set_), llm)
    pipeline = with_overrides(profile_of(profile), chosen.overrides).asking_for(until)
    last_stage(until, profile)
    place = lake_at(lake, to_write=True)
    say(out, "scot run, profile ", (profile, "bold"), f", lake {place.url}")
    require_prefect()
    overrides = [*chosen.overrides, *require_fit(chosen, place, pipeline, out, err if anyway else None)]
    from scot.finished import is_finished
    from scot.inline import Measured, run_inline

    measured, settled = Measured(), with_overrides(profile_of(profile), overrides).asking_for(until)
    with progress_on(out) as bars:
        told = [bars, measured]
        cached = not promote and is_finished(place, settled, profile, overrides, until, told)
        if not cached:
            cached = run_inline(profile, overrides, until=until, lake=place.url, promote=promote, listeners=told)
    if cached:
        say(out, "Everything was in the lake already; nothing was run.")
    elif pipeline.captions.source == "folder" and measured.combiners is not None:
        from scot.own import saturated

        if (warning := saturated(place, measured.combiners)) is not None:
            say(err, ("warning: ", "yellow"), warning)
    if measured.rows is not None:
        _show_benchmark(place, measured.rows.read().to_pylist())
        leave_pictures(place)


def plan(
    *,
    profile: ProfileOption = "catalogue",
    captions: CaptionsOption = None,
    llm: LlmOption = None,
    set_: SetOption = None,
    pairs: Annotated[int | None, Parameter(validator=validators.Number(gte=1))] = None,
    lake: LakeOption = None,
    json_: JsonOption = False,
) -> None:
    """What a profile would do and cost, and what is missing on this machine. Nothing is run.

    `--pairs` plans for so many captioned images, each with one caption, whatever there is.

    Money is computed from the price table, GPU hours are bounds from below (arithmetic over the peak of one H100 or
    H200), hours of cores and disk come from measured and published sizes.
    """
    from scot.plan import make_plan

    place, chosen = lake_at(lake), choose(captions, _overrides(llm, set_), llm)
    pipeline = with_overrides(profile_of(profile), chosen.overrides)
    checked, faults = _tried(place, pipeline)
    made = make_plan(
        place, with_overrides(pipeline, checked.overrides), checked.pairs, last_stage(None, profile), pairs
    )
    made = replace(made, missing=[*made.missing, *(f for f in faults if f"captions: {f}" not in made.missing)])
    if json_:
        print(json.dumps(made.as_json()))
    else:
        show_parts([*chosen.parts, *checked.parts], out)
        show_plan(out, made, profile)


def benchmark(
    name: str,
    /,
    *,
    root: Path | None = None,
    images: Path | None = None,
    queries: str | None = None,
    gallery: Path | None = None,
    combiner: str | None = None,
    encoder: str | None = None,
    allow_missing: Annotated[bool, Parameter(negative="")] = False,
    submission: Path | None = None,
    method: MethodOption = None,
    against: AgainstOption = "tuned-sum",
    lake: LakeOption = None,
    json_: JsonOption = False,
) -> None:
    """Measure a Combiner and the baselines on FashionIQ, CIRR or CIRCO, or on queries of one's own.

    Images that are not embedded yet are embedded into the lake; stop with Ctrl-C at any time, the same command
    goes on. What the paper reports stands beside what was measured. `scot doctor` says which files belong where. With
    --method it compares ways of composing queries, as `scot methods` does on the lake's own benchmarks.

    Parameters
    ----------
    name
        fashioniq, cirr, cirr-test1, circo or circo-test; the last of each pair has hidden targets and gives the
        files that its evaluation server takes. Or own, with --queries.
    root
        Folder of the annotations, laid out as published; default the benchmark's folder in SCOT_DATA (./data).
    images
        Folder of the images; default the root.
    queries
        Of own: a table (CSV, JSON lines or Parquet) of reference, text and target, all of them paths of images below
        the gallery; several targets stand between bars. Rows that make no query are rows of rejects.
    gallery
        Of own: the folder of images that are searched; default the folder that the table lies in.
    combiner
        A key of table combiners, or a folder with model.safetensors and config.json; default the promoted one, else the
        newest that was trained on the encoder, or baselines alone where there is none.
    encoder
        Such as blip2, blip, clip-b32, clip-l14, in float32; default the one that the Combiner was trained on.
    allow_missing
        Go on without images that are missing or broken; queries about them count as misses.
    submission
        Where to put the files for the evaluation server, of cirr-test1 and circo-test.
    """
    if (name == "own") != (queries is not None) or (gallery is not None and name != "own"):
        raise ConfigError("queries of one's own are measured by: scot benchmark own --queries TABLE [--gallery FOLDER]")
    if queries is not None:
        images = gallery or images or Path(queries).expanduser().parent
    places = {"root": str(root or ""), "images": None if images is None else str(images), "queries": queries}
    config = validated(PublishedConfig, {"name": name, **places, "allow_missing": allow_missing})
    embed = None if encoder is None else validated(EmbedConfig, {"encoder": encoder})
    if submission is not None and config.variant.split == VALIDATION:
        raise ConfigError(f"the targets of {name} are public: --submission goes with cirr-test1 and circo-test")
    place = lake_at(lake, to_write=True)
    require_prefect()
    if method is not None:
        measure_published(config, combiner, embed, place, method, against, submission, json_=json_)
        return
    from scot.finished import looked_up
    from scot.inline import benchmark_inline
    from scot_core.stages import recipes

    with progress_on(err if json_ else out) as bars:
        rows = looked_up(lambda run: recipes.published(run, place, config, combiner, embed), [bars])
        if rows is None:
            key = benchmark_inline(config, combiner, embed, lake=place.url, listeners=[bars])["benchmarks"]
        else:
            key = rows.key
    measured = place.table("benchmarks").latest(key=key)
    if measured.config["combiner"] is None:
        say(err, f"no Combiner in {place.url} was trained on this encoder: baselines alone")
    bad = place.table("rejects").find(key) if name == "own" else None
    files = sorted(file.name for file in measured.files)
    if submission is not None:
        measured.files_in(submission)
    if json_:
        print(json.dumps({"key": key, "rows": measured.read().to_pylist(), "files": files}))
        return
    _show_benchmark(place, measured.read().to_pylist())
    for row in [] if bad is None else bad.read(["reason", "raw"]).to_pylist():
        say(err, (f"no query ({row['reason']}): ", "yellow"), row["raw"][:200])
    where = submission or f"{place.url}/{measured.name}"
    for file in files:
        say(out, f"for the evaluation server: {where}/{file}")


def merge(folder: Path, /, *, adapter: str | None = None, lake: LakeOption = None) -> None:
    """Write the tuned model as a folder that any server loads, and say how to serve it.

    The adapter is merged into the unpacked 4-bit weights that it was trained on, in bfloat16.

    Parameters
    ----------
    folder
        A folder that is not there yet, or empty.
    adapter
        A key of table adapters; default the newest.
    """
    table = lake_at(lake).table("adapters")
    tuned = table.latest() if adapter is None else table.latest(key=adapter)
    from scot_core.llm.local.merge import merge_dataset  # takes seconds, which an adapter that is not there costs not

    merge_dataset(tuned, folder)
    say(out, f"vllm serve {folder} --served-model-name scot --dtype bfloat16 --generation-config vllm")


def _overrides(llm: str | None, settings: Sequence[str] | None) -> list[str]:
    """Settings over a profile, those of another language model first."""
    if llm is None:
        return list(settings or [])
    from scot_core.llm.local import smollm2

    of_model = smollm2.OVERRIDES if llm == smollm2.SMOLLM2 else [f"finetune.base={llm}"]
    return [*of_model, *(settings or [])]


def _tried(place: Lake, pipeline: Pipeline) -> tuple[Chosen, Sequence[str]]:
    """What is known about captions that are not drawn, and what does not fit them, for a plan to list."""
    if pipeline.captions.source != "folder":
        return Chosen(()), ()
    from scot.own import check

    try:
        checked = check(place, pipeline)
    except ScotError as error:
        return Chosen(()), [str(error)]
    return checked, checked.faults


def _show_benchmark(place: Lake, rows: Sequence[dict[str, Any]]) -> None:
    from scot_core.benchmarks.reported import beside
    from scot_core.report import write_report

    if not rows:  # hidden targets
        return
    out.print(*benchmark_tables(rows))
    lines = beside(rows)
    if lines:
        out.print(reported_table(lines))
    say(out, f"report: {write_report(place)}")
