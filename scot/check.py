"""`scot check`: whether a lake is what was committed, and the repair where it is not."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from scot.options import JsonOption, LakeOption, err, lake_at, out
from scot.terminal import say
from scot_core.errors import LakeError
from scot_core.lake import Lake
from scot_core.lake.check import Damage, Findings
from scot_core.lake.check import check as examine
from scot_core.lake.repair import ASIDE
from scot_core.lake.repair import repair as move_aside

SHOWN_AFTER_S = 2.0
Flag = Annotated[bool, Parameter(negative="")]


def check(
    *,
    all_: Annotated[bool, Parameter(name="--all", negative="")] = False,
    repair: Flag = False,
    yes: Flag = False,
    lake: LakeOption = None,
    json_: JsonOption = False,
) -> None:
    """Compare a lake with what was committed: digests, footers and row counts of its newest datasets, views, records.

    Exit code 1 where something is damaged, repaired or not; a derived file that is only old is no damage.

    Parameters
    ----------
    all_
        Every dataset, not only the newest of each source and stage.
    repair
        Move damaged files and their manifests aside, so that the next `scot run` rebuilds them, and only them.
    yes
        With --repair: move replies that were paid for, too. They are asked for, and paid, again.
    """
    place = lake_at(lake)
    found = examined(place, everything=all_)
    paid = [damage for damage in found.damages if damage.usd != 0]
    moved: list[str] = []
    if repair and (found.damages or found.old) and (yes or not paid):
        moved = move_aside(place, found.damages)
    if json_:
        print(
            json.dumps(
                {"lake": place.url, **_plain(found), "repaired": bool(repair and (yes or not paid)), "moved": moved}
            )
        )
    else:
        _show(place.url, found, repaired=repair and (yes or not paid))
    if repair and paid and not yes:
        raise LakeError(f"{_costs(paid)}; nothing was moved. `scot check --repair --yes` does it")
    if found.damages:
        raise SystemExit(1)


def examined(place: Lake, *, everything: bool) -> Findings:
    """What is wrong with a lake, with a bar where it takes its time."""
    bar = Progress(
        TextColumn("  checking"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
        console=err, transient=True,
    )  # fmt: skip
    task, started = bar.add_task("", total=None), time.monotonic()

    def tick(done: int, total: int) -> None:
        if time.monotonic() - started > SHOWN_AFTER_S:
            bar.start()
            bar.update(task, completed=done, total=total)

    try:
        return examine(place, everything=everything, tick=tick)
    finally:
        bar.stop()


def _show(url: str, found: Findings, *, repaired: bool) -> None:
    for damage in found.damages:
        say(out, ("✗ ", "red"), f"{damage.file}: {damage.why}")
        if damage.breaks:
            say(out, f"    breaks what was made from it: {', '.join(damage.breaks)}")
        say(out, f"    {'repaired' if repaired else 'the repair'}: {damage.remedy}")
    for name in found.old:
        then = "is written anew" if repaired else "the next run that commits, or --repair, writes it anew"
        say(out, ("– ", "dim"), f"{name} is old, from before the last commit or an upgrade: {then}")
    looked = f"{found.datasets} datasets, {found.files:,} files, {found.bytes / 1e6:,.1f} MB in {url}"
    if not found.damages:
        say(out, ("✓ ", "green"), f"{looked}: as committed")
        return
    say(out, f"{len(found.damages)} damaged, of {looked}")
    if repaired:
        say(out, f"what was moved lies in {url}/{ASIDE}; `scot run` with the same settings rebuilds it")
    else:
        say(out, "`scot check --repair` does the repair, then `scot run` with the same settings rebuilds what is gone")


def _costs(paid: list[Damage]) -> str:
    known = sum(damage.usd or 0 for damage in paid)
    unknown = " or more (a manifest that would say so is damaged)" if any(d.usd is None for d in paid) else ""
    return f"replies that cost {known:.2f} USD{unknown} would be moved aside, asked for and paid again"


def _plain(found: Findings) -> dict[str, object]:
    damaged = [
        {**asdict(damage), "dataset": None if damage.dataset is None else str(damage.dataset), "repair": damage.remedy}
        for damage in found.damages
    ]
    return {
        "datasets": found.datasets,
        "files": found.files,
        "bytes": found.bytes,
        "damaged": damaged,
        "old": found.old,
    }
