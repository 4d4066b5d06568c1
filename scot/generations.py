"""Commands over generations: `scot runs`, `diff`, `promote`, `rollback` and `gc`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Annotated, Any

from cyclopts import Parameter

from scot.look import show_damaged
from scot.options import JsonOption, LakeOption, err, lake_at, out
from scot.terminal import say, show_table
from scot.values import of_records
from scot_core.errors import ConfigError, ScotError
from scot_core.lake import Lake
from scot_core.lake.compare import Score, compare, falls
from scot_core.lake.generations import Generation, find, generation_of, generations, records
from scot_core.lake.promotion import Promoted, current
from scot_core.lake.promotion import promote as put_into_use
from scot_core.lake.promotion import rollback as go_back

Flag = Annotated[bool, Parameter(negative="")]


def runs(*, lake: LakeOption = None, json_: JsonOption = False) -> None:
    """The generations of a lake, oldest first: what each ended in, when, by which Scot, and which one is promoted."""
    place = lake_at(lake)
    promoted, written = current(place), records(place)
    rows = [_row(generation, written, promoted) for generation in generations(place)]
    show_damaged(place.damaged())
    if json_:
        print(json.dumps(rows))
    elif rows:
        columns = ("generation", "committed_at", "ended_in", "scot", "profile", "usd")
        shown = [{**{name: row[name] for name in columns}, "": "in use" if row["in_use"] else ""} for row in rows]
        show_table(out, of_records(shown), title=f"generations of {place.url}")
    else:
        say(out, f"{place.url} holds no generation: `scot run` makes one")


def _row(generation: Generation, written: Mapping[str, Any], promoted: Promoted | None) -> dict[str, Any]:
    record, root = written.get(generation.id), generation.root
    return {
        "generation": generation.id,
        "ended_in": root.name,
        "committed_at": root.created_at.isoformat(timespec="seconds"),
        "scot": None if record is None else record.scot,
        "profile": None if record is None else record.settings.get("profile"),
        "datasets": len(generation.members),
        "members": [dataset.name for dataset in generation.members],
        "usd": round(generation.usd, 2),
        "in_use": promoted is not None and promoted.root == root.reference,
        "missing": [str(reference) for reference in generation.missing],
        "overrides": None if record is None else record.settings.get("overrides"),
    }


def diff(one: str, other: str, /, *, lake: LakeOption = None, json_: JsonOption = False) -> None:
    """Two generations side by side: settings that differ, rows, reasons of rejects, quality of the tuned model, scores.

    Parameters
    ----------
    one
        A generation: its id, the start of its digits, `newest` or `current`.
    other
        The same.
    """
    place = lake_at(lake)
    a, b = _named(place, one), _named(place, other)
    found = compare(a, b)
    if json_:
        print(json.dumps({"generations": [a.id, b.id], **asdict(found)}))
        return
    say(out, f"{a.id} (left) and {b.id} (right)")
    sections: list[tuple[str, Mapping[str, tuple[Any, Any]], Callable[[Any], str]]] = [
        ("settings that differ", found.settings, str),
        ("rows", found.rows, lambda rows: f"{rows:,}"),
        ("rejects, by stage and reason", found.rejects, lambda rows: f"{rows:,}"),
        ("tuned model, percent", found.quality, lambda share: f"{share:.1f}"),
        ("scores, percent (95 % interval over queries)", found.scores, _score),
    ]
    for title, pairs, shown in sections:
        rows = [
            {"": name, "left": "" if left is None else shown(left), "right": "" if right is None else shown(right)}
            for name, (left, right) in pairs.items()
        ]
        if rows:
            show_table(out, of_records(rows), title=title)
        else:
            say(out, f"{title}: none")


def _score(score: Score) -> str:
    return f"{score.value:.1f} ({score.low:.1f}-{score.high:.1f})"


def promote(
    generation: str,
    /,
    *,
    max_drop: float | None = None,
    anyway: Flag = False,
    lake: LakeOption = None,
    json_: JsonOption = False,
) -> None:
    """Put a generation into use: `scot search` and `scot benchmark` take its Combiner, whatever is newer.

    Parameters
    ----------
    generation
        Its id, the start of its digits, or `newest`.
    max_drop
        Refuse it where its benchmark is more than so many points below the promoted generation's.
    anyway
        With --max-drop: say so, and promote it all the same.
    """
    if max_drop is not None and not max_drop >= 0:
        raise ConfigError(f"--max-drop {max_drop} is no number of points: give 0 or more")
    place = lake_at(lake)
    chosen = _named(place, generation)
    if max_drop is not None:
        _gate(place, chosen, max_drop, anyway)
    put_into_use(place, chosen)
    _tell(place, json_)


def rollback(*, lake: LakeOption = None, json_: JsonOption = False) -> None:
    """Put the generation into use again that was promoted before the present one."""
    place = lake_at(lake)
    go_back(place)
    _tell(place, json_)


def _tell(place: Lake, json_: bool) -> None:
    promoted = current(place)
    assert promoted is not None, "it was written just now"
    if json_:
        print(json.dumps({"generation": promoted.generation, "combiners": str(promoted.combiners), "at": promoted.at}))
    else:
        say(out, f"in use: {promoted.generation} ({promoted.combiners})")


def _gate(place: Lake, candidate: Generation, max_drop: float, anyway: bool) -> None:
    """Raises ConfigError or ScotError where the candidate is worse by more than that, or nobody can say."""
    if current(place) is None:
        return
    try:
        fell = {
            name: points for name, points in falls(_named(place, "current"), candidate).items() if points > max_drop
        }
        if fell:
            figures = "; ".join(f"{name}: {points:.2f} points lower" for name, points in fell.items())
            raise ScotError(
                f"{candidate.id} is worse than the promoted generation by more than {max_drop:g} points ({figures}): "
                "not promoted. `--anyway` does it"
            )
    except ScotError as error:
        if not anyway:
            raise
        say(err, ("promoted anyway: ", "yellow"), str(error))


def gc(*, keep: int, yes: Flag = False, lake: LakeOption = None, json_: JsonOption = False) -> None:
    """What no kept generation needs, and how many bytes that is; with --yes it is removed. Not beside a run.

    The promoted generation stays, and the one that `scot rollback` goes to.

    Parameters
    ----------
    keep
        How many of the newest generations stay.
    yes
        Remove it.
    """
    from scot_core.lake import gc as garbage  # with Arrow, which looking at generations has no use for

    place = lake_at(lake)
    found = garbage.garbage(place, keep)
    if yes:
        garbage.collect(place, found)
    if json_:
        print(json.dumps({"lake": place.url, **asdict(found), "bytes": found.bytes, "usd": found.usd, "removed": yes}))
        return
    if found.items:
        rows = [{"": item.name, "why": item.why, "bytes": item.bytes, "usd": item.usd} for item in found.items]
        show_table(out, of_records(rows), title=f"{'removed' if yes else 'would be removed'} from {place.url}")
    for item in found.left:
        say(out, f"left alone: {item.name} ({item.why})")
    paid = f", and {found.usd:,.2f} USD were paid for replies among it" if found.usd else ""
    say(out, f"kept: {', '.join(found.kept) or 'no generation'}")
    say(out, f"{'removed' if yes else 'would be removed'}: {len(found.items)} things, {found.bytes:,} bytes{paid}")
    if not yes and found.items:
        say(out, f"nothing was removed; `scot gc --keep {keep} --yes` does it")


def _named(place: Lake, wanted: str) -> Generation:
    """A generation as people name it. Raises ConfigError where there is none, or none was promoted."""
    if wanted != "current":
        return find(place, wanted)
    promoted = current(place)
    if promoted is None:
        raise ConfigError(f"no generation of {place.url} was promoted: `scot promote` does it")
    known = {dataset.reference: dataset for dataset in place.datasets()}
    if promoted.root not in known:
        raise ConfigError(f"{promoted.root} of the promoted generation is no longer in {place.url}: run again")
    return generation_of(known[promoted.root], known)
