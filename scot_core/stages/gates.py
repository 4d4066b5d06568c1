"""Gates: shares and scores that a stage must reach before the next one begins. What was made until then stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from scot_core.errors import GateError
from scot_core.lake import Dataset, Lake
from scot_core.lake.compare import main_scores
from scot_core.lake.promotion import current


def require_kept(
    lake: Lake, made: Dataset, floor: float, setting: str, *, what: str, advice: str, of: int | None = None
) -> Dataset:  # fmt: skip
    """What a stage made, where it is worth going on with.

    Args:
        floor: the least share of rows that are not rejected.
        what: rows that went in, in words.
        of: rows that were worked on, each of which may have several made of it; None for one a row of `made` and of
            its rejects.

    Raises GateError, naming the commonest reasons, where fewer are kept, or none at all.
    """
    rejects = lake.table("rejects").find(made.key)
    refused = 0 if rejects is None else rejects.rows
    asked = made.rows + refused if of is None else of
    kept = made.rows if of is None else len(made.counts("pair_id"))
    if not asked or (kept and kept >= floor * asked):
        return made
    reasons = Counter() if rejects is None else rejects.counts("reason")
    why = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common(3))
    too_few = f", {kept / asked:.1%}, {_under(floor, setting)}" if floor else ""
    raise GateError(
        f"{made.name} keeps {kept:,} of {asked:,} {what}{too_few} ({why}): {advice}; `scot query` shows table rejects"
    )


def require_quality(adapters: Dataset, floors: Mapping[str, float]) -> Dataset:
    """The tuned model, where enough of its replies are good: `floors` are least shares by metric and setting.

    Raises GateError where they are not, or none can be kept.
    """
    rows = adapters.read(["phase", "metric", "value"]).to_pylist()
    after = {row["metric"].removeprefix("share_"): row["value"] / 100 for row in rows if row["phase"] == "after"}
    for name, floor in floors.items():
        if name in after and (after[name] < floor or not after["kept"]):
            good = f"{after[name]:.1%}" if after[name] else "none"
            too_few = f", {_under(floor, f'finetune.min_{name}')}" if floor else ""
            raise GateError(
                f"{good} of the replies of the tuned model {adapters.name} are {name}{too_few}: tune it longer "
                "(finetune.steps), on more seeds (seed.count), take a larger one (finetune.base), or none "
                "(generate.writer=mined)"
            )
    return adapters


def _under(floor: float, setting: str) -> str:
    return f"under the {floor:.0%} of {setting}"


def require_no_fall(lake: Lake, measured: Iterable[Dataset], most: float | None) -> None:
    """Compares benchmarks with those of the promoted generation, where one was promoted.

    Args:
        most: points of the main metric that may be lost; None compares nothing.

    Raises GateError where more are lost, or nothing is there to compare with.
    """
    promoted = None if most is None else current(lake)
    if promoted is None or most is None:
        return
    before = main_scores(d for d in lake.table("benchmarks").datasets() if promoted.combiners in d.inputs)
    after = main_scores(measured)
    both = before.keys() & after.keys()
    if not both:
        raise GateError(
            f"benchmark.max_drop is {most:g} points, but {', '.join(after) or 'nothing measured'} cannot be compared "
            f"with the promoted {promoted.generation} ({', '.join(before) or 'not measured'}): measure both alike"
        )
    fell = {name: (before[name], after[name]) for name in sorted(both) if before[name] - after[name] > most}
    if fell:
        figures = "; ".join(f"{name}: {then:.2f}, now {now:.2f}" for name, (then, now) in fell.items())
        raise GateError(
            f"the benchmark fell by more than the {most:g} points of benchmark.max_drop against the promoted "
            f"{promoted.generation} ({figures}): nothing is promoted; `scot diff current newest` says what changed"
        )
