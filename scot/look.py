"""Commands that look at a lake, or at this machine: `scot status`, `query`, `search`, `report` and `doctor`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from scot.options import JsonOption, LakeOption, err, lake_at, out
from scot.terminal import say, show_table
from scot.values import as_json, of_answer, of_records
from scot_core.config.settings import settings
from scot_core.errors import LakeError
from scot_core.lake import Lake

RUNS = """
select "table" || '/' || key as dataset, rows_in, rows_out, rejected, round(seconds, 1) as seconds,
    round(usd, 2) as usd, newest
from runs order by created_at
"""


def status(
    *, check: Annotated[bool, Parameter(negative="")] = False, lake: LakeOption = None, json_: JsonOption = False
) -> None:
    """What is in the lake: datasets, rows, cost, and work that was begun but not committed.

    Parameters
    ----------
    check
        Verify every byte of the newest datasets, too, as `scot check` does; exit code 1 where something is damaged.
    """
    from scot_core.query import query_and_damage

    place = lake_at(lake)
    runs, left_out = query_and_damage(place, RUNS, of_answer)
    begun, damaged = place.uncommitted(), show_damaged(left_out)
    flaws = _flaws(place) if check else []
    if json_:
        datasets = json.loads(as_json(runs))
        print(json.dumps({"lake": place.url, "datasets": datasets, "uncommitted": begun, "damaged": damaged + flaws}))
    else:
        show_table(out, runs, title=f"lake {place.url}")
        for name in begun:
            say(out, f"begun, not committed: {name} (the next run goes on with it)")
        for flaw in flaws:
            say(out, ("✗ ", "red"), f"{flaw} (`scot check --repair`)")
    if flaws:
        raise SystemExit(1)


def _flaws(place: Lake) -> list[str]:
    from scot.check import examined

    return [f"{flaw.file}: {flaw.why}" for flaw in examined(place, everything=False).damages]


def show_damaged(errors: Sequence[LakeError]) -> list[str]:
    """Say on stderr what an answer leaves out; returns it."""
    damaged = [str(error) for error in errors]
    for what in damaged:
        say(err, ("left out: ", "yellow"), what)
    return damaged


def query(sql: str, /, *, lake: LakeOption = None, json_: JsonOption = False) -> None:
    """One SELECT over the lake's views, with DuckDB.

    Views: captions, galleries, replies, triplets, rejects, adapters, encoders, embeddings, combiners, benchmarks,
    phrases, pseudo_tokens, inverters, scores, runs.
    Each shows the newest dataset per source and stage; <view>_all shows every one, and
    promoted.<view> what the promoted generation is made of. Nothing but the lake is read, and nothing is written.
    """
    from scot_core.query import query_and_damage

    answer, damaged = query_and_damage(lake_at(lake), sql, of_answer)
    show_damaged(damaged)
    if json_:
        print(as_json(answer))
    else:
        show_table(out, answer)


def search(
    *,
    image: Path,
    text: str,
    k: Annotated[int, Parameter(name=["-k", "--k"])] = 5,
    picture: Path | None = None,
    gallery: Path | None = None,
    combiner: str | None = None,
    encoder: str | None = None,
    with_reference: Annotated[bool, Parameter(negative="")] = False,
    method: str | None = None,
    lake: LakeOption = None,
    json_: JsonOption = False,
) -> None:
    """Search the lake's images with a reference image and a modification text.

    The reference itself is no answer, unless --with-reference says so. In Python: scot_core.search.Searcher.

    Parameters
    ----------
    image
        The reference image, any format Pillow reads.
    text
        What should be different, such as "in red instead".
    k
        How many images to show.
    picture
        Write the answer as a picture: the reference first, then images with rank, score and caption.
    gallery
        A folder of images to search in place of the lake's; their vectors are kept in SCOT_CACHE (~/.cache/scot).
    combiner
        A key of table combiners, a generation (`scot runs`), or a folder with model.safetensors and config.json;
        default the promoted Combiner, else the newest.
    encoder
        Of a Combiner's folder that does not name its own.
    with_reference
        Let the reference image itself be an answer, where the lake holds it.
    method
        How the query is composed, such as tuned-sum or searle; default the Combiner. `scot methods` lists all.
    """
    from scot_core.search import Searcher

    searcher = Searcher(lake_at(lake), gallery, combiner=combiner, encoder=encoder, method=method)
    for image_id, why in searcher.left_out.items():
        say(err, ("left out: ", "yellow"), f"{image_id}: {why}")
    answer = searcher.search(image, text, k, with_reference=with_reference)
    if answer.unknown_words:
        words = ", ".join(map(repr, answer.unknown_words))
        say(err, ("warning: ", "yellow"), f"encoder {searcher.encoder.spec.name} has never seen {words}")
    if picture is not None:
        answer.save(picture)
    if json_:
        weight, unknown = answer.modality_weight, list(answer.unknown_words)
        print(json.dumps({"modality_weight": weight, "unknown_words": unknown, "hits": answer.hits}))
        return
    by = "" if method is None else f" by {method}"
    weighed = "" if answer.modality_weight is None else f" (modality weight of the text {answer.modality_weight:.2f})"
    title = f"{text!r}{by}{weighed}"
    show_table(out, of_records(answer.hits), title)


def settings_(*, json_: JsonOption = False) -> None:
    """Every setting that --set takes: its type, its value in profile catalogue, and what it does."""
    from scot_core.config import listed

    known = listed()
    if json_:
        print(json.dumps([asdict(setting) for setting in known]))
        return
    for setting in known:
        say(out, (setting.key, "bold"), f" = {setting.default}  ({setting.type})")
        say(out, (f"    {setting.help}", "dim"))


def report(*, lake: LakeOption = None, open_: Annotated[bool, Parameter(name="--open", negative="")] = False) -> None:
    """Write the HTML report of the newest benchmark and say where it is.

    Parameters
    ----------
    open_
        Open it in the browser.
    """
    from scot_core.report import write_report

    path = write_report(lake_at(lake))
    say(out, path)
    if open_:
        import webbrowser

        webbrowser.open(path if "://" in path else Path(path).resolve().as_uri())


def doctor(
    *, calibrate: Annotated[bool, Parameter(negative="")] = False, encoder: str = "blip2", lake: LakeOption = None,
    json_: JsonOption = False,
) -> None:  # fmt: skip
    """Check this machine: libraries, shipped weights, lake, server, memory, published benchmarks.

    Exit code 1 where something is missing that every run needs, or damaged (✗); – marks what only some runs do.

    Args:
        calibrate: measure the untrained rows of the paper's Table 1 with each pooling of an encoder instead, to see
            which was the paper's. That wants its weights and FashionIQ, and embeds 15,415 images.
        encoder: the one that is calibrated.
    """
    if calibrate:
        _calibrate(encoder, json_)
        return
    from scot.doctor import examine

    findings = examine(lake or settings().lake)
    if json_:
        print(json.dumps([finding._asdict() for finding in findings]))
    else:
        for finding in findings:
            mark = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "dim")}[finding.ok]
            say(out, mark, f" {finding.what:<18} {finding.found}")
    if any(finding.ok is False for finding in findings):
        raise SystemExit(1)


def _calibrate(encoder: str, json_: bool) -> None:
    from scot import calibrate

    rows = calibrate.calibrate(encoder)
    if json_:
        print(json.dumps({"rows": [asdict(row) for row in rows], "verdict": calibrate.verdict(rows)}))
        return
    for line in (*calibrate.lines(rows), calibrate.verdict(rows)):
        say(out, line)
