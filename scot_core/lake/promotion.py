"""The alias `current`: which generation is in use. Its file holds every promotion and rollback there ever was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from scot_core.errors import ConfigError, LakeError
from scot_core.lake import Dataset, Lake, Reference
from scot_core.lake.generations import WITH_REJECTS, Generation, damaged
from scot_core.lake.sealed import sealed, unsealed
from scot_core.lake.shown import Shown
from scot_core.lake.views import render_views

ALIAS = "aliases/current.json"


@dataclass(frozen=True, slots=True)
class Promoted:
    """A generation that was put into use; it is named by its root, too, which stays when its id does not."""

    generation: str
    root: Reference
    combiners: Reference
    at: str


def promote(lake: Lake, generation: Generation) -> None:
    """Put a generation into use, at once for every reader; the one in use stays in use, with nothing written.

    Raises ConfigError where it has no Combiner.
    """
    if generation.combiners is None:
        raise ConfigError(f"{generation.id} ends in {generation.root.name}, with no Combiner to be used")
    in_use_now = current(lake)
    if in_use_now is not None and in_use_now.root == generation.root.reference:
        return
    entry = {
        "generation": generation.id,
        "root": generation.root.name,
        "combiners": generation.combiners.name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    _write(lake, [*_log(lake), {"promoted": entry}])


def rollback(lake: Lake) -> Promoted:
    """Go back to what was in use before; returns it. Raises ConfigError where nothing was."""
    before = in_use(lake)
    if len(before) < 2:
        raise ConfigError(f"{lake.url}: no generation was promoted before the one in use, there is none to go back to")
    _require_there(lake, before[-2])
    _write(lake, [*_log(lake), {"rolled_back": datetime.now(UTC).isoformat(timespec="seconds")}])
    return before[-2]


def in_use(lake: Lake) -> list[Promoted]:
    """The generation in use, last, and before it those to which `rollback` would go. Raises LakeError if damaged."""
    stack: list[Promoted] = []
    try:
        for event in _log(lake):
            if "promoted" in event:
                entry = event["promoted"]
                root, combiners = Reference.parse(entry["root"]), Reference.parse(entry["combiners"])
                stack.append(Promoted(entry["generation"], root, combiners, entry["at"]))
            else:
                stack.pop()
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise damaged(lake, ALIAS, error) from error
    return stack


def current(lake: Lake) -> Promoted | None:
    """The generation in use, where one was promoted."""
    return next(reversed(in_use(lake)), None)


def members_in_use(lake: Lake, datasets: Sequence[Shown]) -> frozenset[Reference]:
    """What of a lake's datasets the generation in use is made of: nothing, where none was promoted.

    Raises LakeError where nobody can say: the alias is damaged, or the generation is no longer in the lake.
    """
    promoted = current(lake)
    if promoted is None:
        return frozenset()
    known = {dataset.reference: dataset.inputs for dataset in datasets}
    if promoted.root not in known:
        raise _gone(lake, promoted.root, promoted)
    found, waiting = {promoted.root}, [promoted.root]
    while waiting:
        new = {Reference.parse(name) for name in known[waiting.pop()]} & known.keys() - found
        found |= new
        waiting += new
    beside = {Reference("rejects", member.key) for member in found if member.table in WITH_REJECTS}
    return frozenset(found | (beside & known.keys()))


def members_known(lake: Lake, datasets: Sequence[Shown]) -> frozenset[Reference] | None:
    """`members_in_use`; None where nobody can say: other views must not go with it, and whoever asks is told."""
    try:
        return members_in_use(lake, datasets)
    except LakeError:
        return None


def views(lake: Lake, datasets: Sequence[Shown], root: str) -> str:
    """The views of a lake, which follow `promote` and `rollback`; see `render_views`."""
    return render_views(datasets, root, members_known(lake, datasets))


def combiners_in_use(lake: Lake) -> Dataset | None:
    """The promoted Combiner; None where none was promoted. Raises LakeError where it is no longer in the lake."""
    promoted = current(lake)
    return None if promoted is None else _require_there(lake, promoted)


def _require_there(lake: Lake, promoted: Promoted) -> Dataset:
    found = lake.table("combiners").find(promoted.combiners.key)
    if found is None:
        raise _gone(lake, promoted.combiners, promoted)
    return found


def _gone(lake: Lake, missing: Reference, promoted: Promoted) -> LakeError:
    return LakeError(
        f"{missing} of generation {promoted.generation} is no longer in {lake.url}: "
        "promote another generation (`scot runs`), or rebuild this one with `scot run`"
    )


def _log(lake: Lake) -> list[Mapping[str, Any]]:
    if not lake.storage.exists(ALIAS):
        return []
    try:
        return list(unsealed(lake.storage.read(ALIAS))["log"])
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(lake, ALIAS, error) from error


def _write(lake: Lake, log: list[Mapping[str, Any]]) -> None:
    lake.storage.write(ALIAS, sealed({"format": 1, "log": log}))
    lake.write_views()
