"""The cells of a study, one after the other: each a Combiner, and its scores, by the stages that `scot run` has.

They are kept in a lake of their own, `studies` in the folder of the first: what a study trains must not become the
newest Combiner, which `scot search` takes. What the first lake holds already is lent to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from scot_core.config import MethodsConfig, Pipeline, profile, with_overrides
from scot_core.errors import ConfigError, DataError, GateError, ModelError, ScotError
from scot_core.lake import Dataset, Lake
from scot_core.lake.lending import lend
from scot_core.methods import method
from scot_core.methods.combiners import trained_with
from scot_core.stages import recipes
from scot_core.stages.methods.cached import NotMeasuredError, reuse
from scot_core.stages.methods.exams import exams
from scot_core.stages.methods.ground import Ground, LakeKnown
from scot_core.stages.methods.measure import MeasureMethod
from scot_core.stages.preflight.faults import folders_fault
from scot_core.stages.preflight.sample import sample
from scot_core.stages.step import Committed, Run, Step, Work
from scot_core.studies.spec import TEXT_WEIGHT, Cell, Study
from scot_core.studies.weights import MeasureWeights

FOLDER = "studies"
OWN = ""  # stands for the Combiner of a cell among the methods beside it


@dataclass(frozen=True)
class Done:
    """What a cell ended in: its Combiners, and scores by benchmark and method, `OWN` among these."""

    cell: Cell
    combiners: Dataset
    scores: Mapping[str, Mapping[str, Dataset]]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A cell that cannot be here, and why: data or weights that are not there, triplets too few for it."""

    cell: Cell
    why: str


OnCell = Callable[[Cell, bool], None]


def studies_of(lake: Lake) -> Lake:
    """Where the cells of a lake's studies are kept."""
    return Lake(f"{lake.url}/{FOLDER}")


def plans(study: Study, profile_name: str, overrides: Sequence[str]) -> Iterator[tuple[Cell, Pipeline]]:
    """The configuration of every cell. Raises ConfigError for an override of what the study varies."""
    fixed = study.varied & {override.partition("=")[0].strip() for override in overrides}
    if fixed:
        raise ConfigError(f"study {study.name} varies {', '.join(sorted(fixed))}: leave it out of --set")
    for cell in study.cells:
        settings = [*study.settings, *overrides, *cell.settings]
        yield cell, with_overrides(profile(profile_name), settings)


def measure(
    run: Run, lake: Lake, study: Study, profile_name: str, overrides: Sequence[str],
    on_cell: OnCell = lambda cell, cached: None,
) -> tuple[list[Done], list[LeftOut]]:  # fmt: skip
    """Every cell, those that are there already at once; `on_cell` is told of each whether it was.

    Raises what left out the first cell where all are left out.
    """
    to = studies_of(lake)
    to.check_writable()
    done: list[Done] = []
    left_out: list[LeftOut] = []
    failures: list[ScotError] = []
    planned = list(plans(study, profile_name, overrides))
    if "train.folders" in study.varied and left(lake, study, profile_name, overrides):
        _require_folders(study, [pipeline for _, pipeline in planned])
    for cell, pipeline in planned:
        cached = True
        try:
            try:
                made = _measured(_Lent(reuse, lake, to, cell), to, study, cell, pipeline)
            except NotMeasuredError:
                made = _measured(_Lent(run, lake, to, cell), to, study, cell, pipeline)
                cached = False
        except (ConfigError, DataError, GateError, ModelError) as error:
            left_out.append(LeftOut(cell, str(error).split("\n")[0]))
            failures.append(error)
            continue
        done.append(made)
        on_cell(cell, cached)
    if not done:
        raise failures[0]
    return done, left_out


def _require_folders(study: Study, cells: Sequence[Pipeline]) -> None:
    """Raises ConfigError where a study of folders is asked of pictures that lie in none, or in others."""
    captions = cells[0].captions
    if captions.source != "folder":
        raise ConfigError(
            f"study {study.name} tells pictures of several folders apart, and captions.source={captions.source} is no "
            f"table of one's own: `make worlds` writes one with such folders, then it is `scot study {study.name} "
            "--captions worlds/captions.csv`"
        )
    folders = sorted({folder for cell in cells for folder in cell.train.folders})
    if faults := folders_fault(folders, sample(captions)):
        raise ConfigError(faults[0])


def left(lake: Lake, study: Study, profile_name: str, overrides: Sequence[str]) -> int:
    """How many cells are not in the lake yet. Nothing is written."""
    to, missing = studies_of(lake), 0
    for cell, pipeline in plans(study, profile_name, overrides):
        try:
            _measured(reuse, to, study, cell, pipeline)
        except (NotMeasuredError, ScotError):
            missing += 1
    return missing


def _measured(run: Run, lake: Lake, study: Study, cell: Cell, pipeline: Pipeline) -> Done:
    made = _until_combiners(run, lake, pipeline)
    combiners = made[-1]
    ground = replace(Ground.of(lake, combiners.key), before=[dataset.name for dataset in made])
    known = LakeKnown(ground, MethodsConfig().seeds)
    own = method(cell.method) if cell.method else trained_with(str(combiners.config["loss"]))
    asked = {OWN: own} | {name: method(name) for name in study.methods}
    scores: dict[str, dict[str, Dataset]] = {}
    both = {exam.name: exam for draw in (False, True) for exam in exams(ground, known, development=draw)}
    for exam in (exam for name, exam in both.items() if name in pipeline.benchmark.names):
        if study.metric == TEXT_WEIGHT:
            scores[exam.name] = {OWN: run(MeasureWeights(lake, exam, combiners))["scores"]}
            continue
        for name, one in asked.items():
            learned = [dataset for need in one.needs for dataset in ground.find(need)]
            step = MeasureMethod(lake, MethodsConfig(timed=1), exam, one, learned, known)
            scores.setdefault(exam.name, {})[name] = run(step)["scores"]
    if not scores:
        asked_for = ", ".join(pipeline.benchmark.names)
        raise ConfigError(
            f"{combiners.source} has no benchmark {asked_for} of its own (benchmark.names): a study is measured on "
            "catalogue or mined"
        )
    return Done(cell, combiners, scores)


def _until_combiners(run: Run, lake: Lake, pipeline: Pipeline) -> list[Dataset]:
    """What the stages hand on, the Combiners last."""
    made: list[Dataset] = []
    for dataset in recipes.walk(run, lake, pipeline):
        if dataset is not None:
            made.append(dataset)
            if dataset.table == "combiners":
                break
    return made


class _Lent:
    """A `Run` that takes what the first lake holds already, and names the cell in what it has to do."""

    def __init__(self, run: Run, of: Lake, to: Lake, cell: Cell) -> None:
        self._run, self._of, self._to, self._cell = run, of, to, cell

    def __call__(self, work: Work) -> Committed:
        found = work.committed()
        if found is None and isinstance(work, Step):
            found = self._lent(work)
        if found is None:
            work.name = f"{self._cell.name}: {work.name}"
            found = self._run(work)
        return found

    def _lent(self, step: Step) -> Committed | None:
        found = {table: self._of.find(identity) for table, identity in step.outputs.items()}
        there = {table: dataset for table, dataset in found.items() if dataset is not None}
        if len(there) < len(found):
            return None
        return {table: lend(dataset, self._of, self._to) for table, dataset in there.items()}
