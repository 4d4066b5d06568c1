"""What a study is: a question, and the settings that are varied to answer it. Nothing of it is known to the runner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TEXT_WEIGHT = "text weight"


@dataclass(frozen=True, slots=True)
class Cell:
    """One setting of a study: a point of its plots and a row of its table."""

    panel: str
    """The plot it stands in, named after what is varied there."""
    x: str
    """Its place on the axis, a number or a name."""
    settings: tuple[str, ...]
    """As `--set` takes them, over those of the study."""
    line: str = ""
    """Which of several lines of the plot it lies on."""
    method: str = ""
    """Measured in place of the Combiner: a name of `scot methods`."""

    @property
    def name(self) -> str:
        return f"{self.panel} {self.x}" + (f", {self.line}" if self.line else "")


@dataclass(frozen=True, slots=True)
class Study:
    """A grid of Combiners, every one trained and measured by the stages that `scot run` has."""

    name: str
    question: str
    place: str
    """Where the question comes from: a table, a figure or a section of the paper."""
    cells: tuple[Cell, ...]
    against: str
    """The cell that differences are taken to, by name."""
    minutes: float
    """Of all cells on two cores, with profile catalogue, five seeds and nothing else at work."""
    settings: tuple[str, ...] = ("train.seeds=0,1,2,3,4",)
    """Of every cell; a cell's own count over them."""
    methods: tuple[str, ...] = ("tuned-sum",)
    """Measured beside the Combiner of each cell: names of `scot methods`."""
    profile: str = "catalogue"
    metric: str = ""
    """What is compared; empty for the benchmark's own, `TEXT_WEIGHT` for how much a Combiner lets the text weigh."""
    by: str = ""
    """A breakdown of the queries, such as kind, that is the axis of the plot in place of the settings."""
    note: str = ""
    """What a reader must know of the grid."""

    @property
    def varied(self) -> set[str]:
        """The keys that cells differ in."""
        return {setting.partition("=")[0] for cell in self.cells for setting in cell.settings}


def grid(key: str, values: Sequence[object], panel: str = "", line: str = "", also: Sequence[str] = ()) -> list[Cell]:
    """A cell for each value of a setting, beside settings that all of them have."""
    return [Cell(panel or key.partition(".")[2], str(value), (f"{key}={value}", *also), line) for value in values]
