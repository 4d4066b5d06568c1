"""`scot study`: the paper's studies, each a grid of Combiners that are trained and measured like any other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from pydantic import TypeAdapter

from scot.choose import choose, require_fit
from scot.lines import progress_on
from scot.options import CaptionsOption, JsonOption, LakeOption, err, lake_at, out, require_prefect
from scot.terminal import bare_table, plain, say
from scot_core.lake import Lake

if TYPE_CHECKING:  # loads torch
    from scot_core.studies import Study
    from scot_core.studies.findings import Findings


def study(
    name: str | None = None,
    *,
    profile: str | None = None,
    captions: CaptionsOption = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    lake: LakeOption = None,
    into: Path | None = None,
    open_: Annotated[bool, Parameter(name="--open", negative="")] = False,
    json_: JsonOption = False,
) -> None:
    """A study of the paper: its grid of Combiners is trained and measured, and what was found is said in a sentence.

    Without a name: the studies there are, their questions, how many of their cells are still to be done, and about how
    long that takes on two cores. A study that was stopped goes on where it was. Its cells are kept in a lake of their
    own, `studies` in the folder of the lake, so that none of them becomes the Combiner that `scot search` takes; what
    the lake holds already is not made again. The page studies.html of the lake has tables and plots.

    Examples: scot study loss; in a minute: scot study loss --profile smoke --set train.seeds=0

    Parameters
    ----------
    name
        The study; none lists them.
    profile
        What its settings stand over: catalogue, smoke or paper; by default the study's own.
    set_
        Settings of every cell, such as train.seeds=0,1; not those that the study varies.
    into
        A Markdown file that the table is written into, in the place of the one before, such as docs/evidence.md.
    open_
        Open the page in the browser.
    """
    place = lake_at(lake, to_write=name is not None)
    from scot_core.config import profile as profile_of
    from scot_core.config import with_overrides
    from scot_core.studies import study as known

    if name is None:
        show_studies(place, profile, set_ or [], json_=json_)
        return
    asked = known(name)
    over, picked = profile or asked.profile, choose(captions, set_ or [], None)
    pipeline = with_overrides(profile_of(over), picked.overrides)
    settings = [*picked.overrides, *require_fit(picked, place, pipeline, err if json_ else out, None)]
    page, found = _run(asked, over, settings, place, quiet=json_)
    if into is not None:
        from scot_core.report.studies import put_into

        for one in found:
            text = into.read_text() if into.exists() else ""
            into.write_text(put_into(text, one))
    if json_:
        from scot_core.studies.findings import Findings

        print(TypeAdapter(list[Findings]).dump_json(found).decode())
    else:
        for one in found:
            show(one)
        say(out, f"page: {page}")
    if open_:
        import webbrowser

        webbrowser.open(page if "://" in page else Path(page).resolve().as_uri())


def _run(
    known: Study, profile: str, overrides: Sequence[str], place: Lake, *, quiet: bool
) -> tuple[str, list[Findings]]:
    from scot_core.report.studies import write_studies
    from scot_core.stages.methods.cached import NotMeasuredError, reuse
    from scot_core.studies.findings import findings, keep, kept_of
    from scot_core.studies.measure import measure

    try:
        measured = measure(reuse, place, known, profile, overrides)
    except NotMeasuredError:
        require_prefect()
        from scot.inline import study_inline

        with progress_on(err if quiet else out) as bars:
            study_inline(known.name, profile, overrides, lake=place.url, listeners=[bars])
    else:
        for one in findings(place, known, profile, overrides, *measured):
            keep(place, one)
    return write_studies(place), kept_of(place, known, profile, overrides)


def show_studies(place: Lake, profile: str | None, overrides: Sequence[str], *, json_: bool) -> None:
    """What there is to be run."""
    from scot_core.studies import STUDIES
    from scot_core.studies.measure import left

    rows = []
    for one in STUDIES.values():
        settings = [override for override in overrides if override.partition("=")[0] not in one.varied]
        to_do = left(place, one, profile or one.profile, settings)
        minutes = one.minutes * to_do / len(one.cells)
        rows.append((one, to_do, minutes))
    if json_:
        listed = [
            {"study": one.name, "question": one.question, "from": one.place, "cells": len(one.cells), "left": to_do,
             "minutes": round(minutes, 1)}
            for one, to_do, minutes in rows
        ]  # fmt: skip
        print(json.dumps(listed))
        return
    table = bare_table("studies (minutes of what is left: two cores, profile catalogue, five seeds)")
    for column in ("study", "question", "from"):
        table.add_column(column)
    for column in ("cells", "left", "minutes"):
        table.add_column(column, justify="right")
    for one, to_do, minutes in rows:
        cells = (one.name, one.question, one.place, str(len(one.cells)), str(to_do), f"{minutes:.0f}")
        table.add_row(*(plain(cell) for cell in cells))
    out.print(table)


def show(found: Findings) -> None:
    """The table of a study, and its sentence."""
    from scot_core.report.studies import splits_of

    table = bare_table(
        f"{found.study} on {found.benchmark}: {found.metric}, percent (95 % interval); bold: a difference without zero"
    )
    table.add_column("setting")
    splits = splits_of(found)
    for column in ("seeds", *splits, f"against {found.against}"):
        table.add_column(plain(column), justify="right")
    for row in found.rows:
        values = [plain(str(row.values[split])) for split in splits]
        table.add_row(plain(row.name), str(row.runs), *values, plain(row.difference, "bold" if row.decided else ""))
    out.print(table)
    for name, why in found.left_out:
        say(err, (f"{name} is left out: ", "yellow"), why)
    say(out, found.sentence)
