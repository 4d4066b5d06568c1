"""The command line `scot`. Exit codes: 0 done, 1 failed, 2 bad usage, 130 stopped by Ctrl-C."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from scot_core.config.settings import settings
from scot_core.errors import ConfigError, ScotError

app = App(
    name="scot",
    help="Composed image retrieval from captioned images. Start with: scot run",
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,  # main() says what is kept
)
out = Console(width=None if sys.stdout.isatty() else 140)
err = Console(stderr=True)

LakeOption = Annotated[
    str | None, Parameter(name="--lake", help="Path or URL of the lake; default SCOT_LAKE or ./lake.")
]
JsonOption = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON, for machines.")]


@app.command
def run(
    *,
    profile: str = "catalogue",
    until: str | None = None,
    llm: str | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    lake: LakeOption = None,
) -> None:
    """Run every stage of a profile here; what is committed already is reused.

    Stop it at any time with Ctrl-C and run the same command again: it goes on where it was.

    Parameters
    ----------
    profile
        smoke (a minute, for tries), catalogue (the whole job on a drawn world) or paper (see `scot plan`).
    until
        The last stage to run: captions, seed, finetune, generate, embed, train or benchmark.
    llm
        The language model that is tuned: smollm2 (after `make smollm`), a folder, or a hub id (with
        --set finetune.revision=COMMIT); default the profile's.
    set_
        One setting, such as --set train.steps=300. May be given several times.
    """
    from scot.terminal import Bars
    from scot_core.config import last_stage, with_overrides
    from scot_core.config import profile as profile_named
    from scot_core.lake import Lake

    overrides = [*_llm(llm), *(set_ or [])]
    with_overrides(profile_named(profile), overrides)
    last_stage(until)
    place = Lake(lake or settings().lake)
    place.check_writable()
    out.print(f"scot run, profile [bold]{profile}[/bold], lake {escape(place.url)}", highlight=False)
    with Bars(out) as bars:
        cached = _flows().run_inline(profile, overrides, until=until, lake=place.url, listeners=[bars])
    if cached:
        out.print("Everything was in the lake already; nothing was run.")
    _show_results(place)


@app.command
def plan(
    *,
    profile: str = "catalogue",
    llm: str | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    lake: LakeOption = None,
    json_: JsonOption = False,
) -> None:
    """What a profile would do and cost, and what is missing on this machine. Nothing is run.

    Money is computed from the price table, GPU hours are bounds from below (arithmetic over the peak of one H100 or
    H200), hours of cores and disk come from measured and published sizes.

    Parameters
    ----------
    profile
        smoke, catalogue or paper.
    llm
        The language model that is tuned, as for `scot run`.
    set_
        One setting, such as --set seed.mode=batch. May be given several times.
    """
    from scot.plan import make_plan
    from scot.terminal import show_plan
    from scot_core.config import profile as profile_named
    from scot_core.config import with_overrides

    made = make_plan(_lake(lake), with_overrides(profile_named(profile), [*_llm(llm), *(set_ or [])]))
    if json_:
        print(json.dumps(made.as_json()))
    else:
        show_plan(out, made, profile)


@app.command
def benchmark(
    name: str,
    /,
    *,
    root: Path | None = None,
    images: Path | None = None,
    combiner: str | None = None,
    encoder: str | None = None,
    allow_missing: Annotated[bool, Parameter(negative="")] = False,
    submission: Path | None = None,
    lake: LakeOption = None,
    json_: JsonOption = False,
) -> None:
    """Measure a Combiner and the baselines on FashionIQ, CIRR or CIRCO.

    Images that are not embedded yet are embedded into the lake; stop with Ctrl-C at any time, the same command
    goes on. What the paper reports stands beside what was measured. `scot doctor` says which files belong where.

    Parameters
    ----------
    name
        fashioniq, cirr, cirr-test1, circo or circo-test; the last of each pair has hidden targets and gives the
        files that its evaluation server takes.
    root
        Folder of the annotations, laid out as published; default the benchmark's folder in SCOT_DATA (./data).
    images
        Folder of the images; default the root.
    combiner
        A key of table combiners, or a folder with model.safetensors and config.json; default the newest that was
        trained on the encoder, or baselines alone where there is none.
    encoder
        Such as blip2, blip, clip-b32, clip-l14, in float32; default the one that the Combiner was trained on.
    allow_missing
        Go on without images that are missing or broken; queries about them count as misses.
    submission
        Where to put the files for the evaluation server, of cirr-test1 and circo-test.
    """
    from scot.terminal import Bars
    from scot_core.config import EmbedConfig, PublishedConfig, validated
    from scot_core.lake import Lake

    places = {"root": str(root or ""), "images": None if images is None else str(images)}
    config = validated(PublishedConfig, {"name": name, **places, "allow_missing": allow_missing})
    embed = None if encoder is None else validated(EmbedConfig, {"encoder": encoder})
    if submission is not None and "-" not in name:
        raise ConfigError(f"the targets of {name} are public: --submission goes with cirr-test1 and circo-test")
    place = Lake(lake or settings().lake)
    place.check_writable()
    with Bars(err if json_ else out) as bars:
        key = _flows().benchmark_inline(config, combiner, embed, lake=place.url, listeners=[bars])
    measured = place.table("benchmarks").latest(key=key)
    if measured.config["combiner"] is None:
        err.print(f"no Combiner in {place.url} was trained on this encoder: baselines alone", markup=False)
    files = sorted(file.name for file in measured.files)
    if submission is not None:
        measured.files_in(submission)
    if json_:
        print(json.dumps({"key": key, "rows": measured.read().to_pylist(), "files": files}))
        return
    _show_benchmark(place, measured.read().to_pylist())
    where = submission or f"{place.url}/{measured.name}"
    for file in files:
        out.print(f"for the evaluation server: {where}/{file}", highlight=False, markup=False, soft_wrap=True)


@app.command
def status(*, lake: LakeOption = None, json_: JsonOption = False) -> None:
    """What is in the lake: datasets, rows, cost, and work that was begun but not committed."""
    from scot.terminal import show_table
    from scot_core.query import query as ask

    place = _lake(lake)
    runs = ask(
        place,
        """select "table" || '/' || key as dataset, rows_in, rows_out, rejected, round(seconds, 1) as seconds, """
        """round(usd, 2) as usd, newest """
        "from runs order by created_at",
    )
    begun = place.uncommitted()
    _show_damaged(place)
    if json_:
        damaged = [str(error) for error in place.damaged()]
        print(json.dumps({"lake": place.url, "datasets": runs.to_pylist(), "uncommitted": begun, "damaged": damaged}))
        return
    show_table(out, runs, title=f"lake {place.url}")
    for name in begun:
        out.print(f"begun, not committed: {name} (the next run goes on with it)", highlight=False)


@app.command
def query(sql: str, /, *, lake: LakeOption = None, json_: JsonOption = False) -> None:
    """One SQL statement over the lake's views, with DuckDB.

    Views: captions, galleries, replies, triplets, rejects, adapters, embeddings, combiners, benchmarks, runs.
    Each shows the newest dataset per source and stage; <view>_all shows every one.
    """
    from scot.terminal import show_table
    from scot_core.query import query as ask

    place = _lake(lake)
    result = ask(place, sql)
    _show_damaged(place)
    if json_:
        print(json.dumps(result.to_pylist(), default=str))
    else:
        show_table(out, result)


@app.command
def search(
    *, image: Path, text: str, k: Annotated[int, Parameter(name=["-k", "--k"])] = 5, picture: Path | None = None,
    lake: LakeOption = None, json_: JsonOption = False,
) -> None:  # fmt: skip
    """Search the lake's images with a reference image and a modification text.

    Parameters
    ----------
    image
        The reference image, any format Pillow reads.
    text
        What should be different, such as "in red instead".
    k
        How many images to show.
    picture
        Write the answer as a picture, reference first.
    """
    from scot.terminal import show_table
    from scot_core.search import Searcher

    answer = Searcher(_lake(lake)).search(image, text, k)
    if picture is not None:
        answer.save(picture)
    if json_:
        print(json.dumps({"modality_weight": answer.modality_weight, "hits": answer.hits}))
        return
    import pyarrow as pa

    show_table(
        out,
        pa.Table.from_pylist(answer.hits),
        title=f"{text!r} (modality weight of the text {answer.modality_weight:.2f})",
    )


@app.command
def report(*, lake: LakeOption = None, open_: Annotated[bool, Parameter(name="--open", negative="")] = False) -> None:
    """Write the HTML report of the newest benchmark and say where it is.

    Parameters
    ----------
    open_
        Open it in the browser.
    """
    from scot_core.report import write_report

    path = write_report(_lake(lake))
    out.print(path, highlight=False, markup=False, soft_wrap=True)
    if open_:
        import webbrowser

        webbrowser.open(path if "://" in path else Path(path).resolve().as_uri())


@app.command
def doctor(*, lake: LakeOption = None, json_: JsonOption = False) -> None:
    """Check this machine: libraries, shipped weights, lake, server, memory, published benchmarks.

    Exit code 1 where something is missing that every run needs, or damaged (✗); – marks what only some runs do.
    """
    from scot.doctor import examine

    findings = examine(lake or settings().lake)
    if json_:
        print(json.dumps([finding._asdict() for finding in findings]))
    else:
        for finding in findings:
            mark = {True: "[green]✓[/green]", False: "[red]✗[/red]", None: "[dim]–[/dim]"}[finding.ok]
            out.print(f"{mark} {finding.what:<18} {escape(finding.found)}", highlight=False, soft_wrap=True)
    if any(finding.ok is False for finding in findings):
        raise SystemExit(1)


def main() -> None:
    """Entry point: errors Scot raises on purpose are printed in a line or two, without a traceback."""
    _quiet_libraries()
    try:
        app()
    except ScotError as error:
        err.print(Text.assemble(("error: ", "red"), str(error)), soft_wrap=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except KeyboardInterrupt:
        err.print("stopped; what was finished is kept, the same command goes on from there")
        sys.exit(130)


def _quiet_libraries() -> None:
    """Progress and errors are this program's to show; libraries speak up only about errors."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    for name in ("stamina", "httpx", "httpx2", "openai", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _llm(name: str | None) -> list[str]:
    """The settings that another language model needs."""
    if name is None:
        return []
    from scot_core.llm.local import smollm2

    return list(smollm2.OVERRIDES) if name == smollm2.SMOLLM2 else [f"finetune.base={name}"]


def _lake(url: str | None) -> Any:
    from scot_core.lake import Lake

    return Lake(url or settings().lake)


def _flows() -> ModuleType:
    """The flows, and Prefect with them: imported where they are run. Raises ConfigError without Prefect."""
    try:
        from scot import inline
    except ModuleNotFoundError as error:
        if error.name != "prefect":
            raise
        raise ConfigError("running stages needs Prefect: install Scot with its extra, scot[flows]") from error
    return inline


def _show_damaged(place: Any) -> None:
    """What the answer leaves out, on stderr."""
    for error in place.damaged():
        err.print(Text.assemble(("left out: ", "yellow"), str(error)), soft_wrap=True)


def _show_results(place: Any) -> None:
    found = place.table("benchmarks").matching()
    if found:
        _show_benchmark(place, found[-1].read().to_pylist())


def _show_benchmark(place: Any, rows: list[dict[str, Any]]) -> None:
    from scot.terminal import benchmark_table, reported_table
    from scot_core.benchmarks.reported import beside
    from scot_core.report import write_report

    if not rows:  # hidden targets
        return
    out.print(benchmark_table(rows))
    lines = beside(rows)
    if lines:
        out.print(reported_table(lines))
    out.print(f"report: {write_report(place)}", highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
