"""What a study found: values of every cell with intervals, paired differences, and one sentence, all of it computed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from scot_core.lake import Lake
from scot_core.paper import main_metric
from scot_core.stages.methods.table import Cell as Value
from scot_core.stages.methods.table import compare
from scot_core.studies.measure import FOLDER, OWN, Done, LeftOut, studies_of
from scot_core.studies.spec import TEXT_WEIGHT, Cell, Study

ALL = "all"
KEPT = "findings"
FEWEST = 20  # queries of a split that is shown


@dataclass(frozen=True)
class Row:
    """One cell, or a method beside the Combiner: in every panel the same where `panel` is empty."""

    panel: str
    line: str
    x: str
    name: str
    own: bool
    same: bool
    """Whether it is the one that differences are taken to, perhaps under another name."""
    settings: tuple[str, ...]
    runs: int
    values: Mapping[str, Value]
    """By split."""

    @property
    def difference(self) -> str:
        """The paired difference over all queries; nothing where there is none."""
        return "" if self.same else self.values[ALL].shown_difference

    @property
    def decided(self) -> bool:
        """Whether the interval of the difference leaves zero out."""
        return self.values[ALL].decided


@dataclass(frozen=True)
class Findings:
    """A study on one benchmark."""

    study: str
    question: str
    place: str
    note: str
    benchmark: str
    metric: str
    by: str
    """A breakdown of the queries that is the axis of the plot, if any."""
    against: str
    profile: str
    overrides: tuple[str, ...]
    queries: Mapping[str, int]
    rows: tuple[Row, ...]
    left_out: tuple[tuple[str, str], ...]
    """Names of cells, and why."""
    machine: str
    at: datetime
    """When the newest of it was measured."""

    def tells(self, split: str) -> bool:
        """Whether a split has queries enough to be shown."""
        return split == ALL or self.queries[split] >= FEWEST

    @property
    def own(self) -> list[Row]:
        """The Combiners."""
        return [row for row in self.rows if row.own]

    @property
    def listed(self) -> list[tuple[str, Row]]:
        """Name and row of each line of a table: what stands beside several Combiners with the same values, once."""
        alike: dict[str, list[Row]] = {}
        for row in self.rows:
            alike.setdefault(row.name if row.own else str(row.values), []).append(row)
        more = {name: f", and beside {len(rows) - 1} more" if rows[1:] else "" for name, rows in alike.items()}
        return [(rows[0].name + more[name], rows[0]) for name, rows in alike.items()]

    @property
    def panels(self) -> list[str]:
        return list(dict.fromkeys(row.panel for row in self.rows if row.panel))

    @property
    def sentence(self) -> str:
        """What was found, in one sentence."""
        reference = next(row for row in self.own if row.name == self.against)
        others = [row for row in self.own if not row.same]
        decided = {row.name: row.values[ALL] for row in others if row.values[ALL].decided}
        better = {name: value for name, value in decided.items() if value.difference > 0}
        worse = {name: value for name, value in decided.items() if value.difference < 0}
        parts = [f"{self.metric} over all queries is {reference.values[ALL]} at {self.against}"]
        more, less = ("higher", "lower") if self.metric == TEXT_WEIGHT else ("better", "worse")
        for what, found, best in ((more, better, max), (less, worse, min)):
            if found:
                name = best(found, key=lambda name: found[name].difference)
                parts.append(f"{_are(len(found), len(others))} {what}, most {name} ({_points(found[name])})")
        along = [split for split in self.queries if self.by and split.startswith(f"{self.by}: ") and self.tells(split)]
        if along:
            ends = [end(along, key=lambda split: reference.values[split].value) for end in (max, min)]
            most, least = (f"{split} ({reference.values[split]})" for split in ends)
            parts.append(f"there it is highest for {most} and lowest for {least}")
        undecided = len(others) - len(decided)
        parts += [f"{_are(undecided)} not told apart from it"] if undecided else []
        for row in self.rows:
            if not row.own and not row.panel:
                parts.append(f"{row.name} has {row.values[ALL]} ({_points(row.values[ALL])})")
        return "; ".join(parts) + "."


def _are(count: int, of: int | None = None) -> str:
    """`1 is`, `3 of 4 are`."""
    return f"{count}{'' if of is None else f' of {of}'} {'is' if count == 1 else 'are'}"


def _points(value: Value) -> str:
    return f"{value.shown_difference} points"


def findings(
    lake: Lake, study: Study, profile_name: str, overrides: Sequence[str], done: Sequence[Done],
    left_out: Sequence[LeftOut],
) -> list[Findings]:  # fmt: skip
    """One for each benchmark, against the cell that the study names, or the first where that one is left out."""
    return [
        _on(name, lake, study, profile_name, overrides, [one for one in done if name in one.scores], left_out)
        for name in dict.fromkeys(name for one in done for name in one.scores)
    ]


def _on(
    benchmark: str, lake: Lake, study: Study, profile_name: str, overrides: Sequence[str], done: Sequence[Done],
    left_out: Sequence[LeftOut],
) -> Findings:  # fmt: skip
    metric, against = study.metric or main_metric(benchmark), study.against
    if against not in {one.cell.name for one in done}:
        against = done[0].cell.name
    measured = {one.cell.name: one.scores[benchmark][OWN] for one in done}
    named = {one.cell.name: (one.cell, OWN) for one in done}
    for method in study.methods:
        alike = len({one.scores[benchmark][method].key for one in done}) == 1
        for one in done[:1] if alike else done:
            cell = (
                Cell("", "", ()) if alike else replace(one.cell, settings=(), line=f"{one.cell.line} {method}".strip())
            )
            name = method if alike else f"{one.cell.name}, {method}"
            measured[name], named[name] = one.scores[benchmark][method], (cell, method)
    made = compare(studies_of(lake), measured, against, metrics=[metric])
    rows = []
    for its in made.standings:
        cell, method = named[its.method]
        values = {split: of_split[metric] for split, of_split in its.cells.items()}
        shown = its.method if cell.panel else its.shown
        same = measured[its.method].key == measured[against].key
        rows.append(Row(cell.panel, cell.line, cell.x, shown, not method, same, cell.settings, its.runs, values))
    return Findings(
        study.name, study.question, study.place, study.note, benchmark, metric, study.by, against, profile_name,
        tuple(overrides), made.queries, tuple(rows), tuple((one.cell.name, one.why) for one in left_out),
        machine(), max(dataset.created_at for dataset in measured.values()),
    )  # fmt: skip


def machine() -> str:
    """The processor and how many of its cores this process may use."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    names = Counter(line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name"))
    name = next(iter(names), "a processor without a name")
    return f"{len(os.sched_getaffinity(0))} cores, {name}"


_FINDINGS: TypeAdapter[Findings] = TypeAdapter(Findings)


def keep(lake: Lake, found: Findings) -> None:
    """Write them beside the cells, in place of what the study found on the benchmark before."""
    name = f"{FOLDER}/{KEPT}/{found.study}-{found.benchmark}.json"
    lake.storage.write(name, _FINDINGS.dump_json(found, indent=1))


def kept(lake: Lake) -> list[Findings]:
    """Those of every study that was run."""
    folder = f"{FOLDER}/{KEPT}"
    names = [name for name in lake.storage.names(folder) if name.endswith(".json")]
    return [_FINDINGS.validate_json(lake.storage.read(f"{folder}/{name}")) for name in names]


def kept_of(lake: Lake, study: Study, profile_name: str, overrides: Sequence[str]) -> list[Findings]:
    """Those of a study with these settings."""
    asked = study.name, profile_name, tuple(overrides)
    return [one for one in kept(lake) if (one.study, one.profile, one.overrides) == asked]
