"""Kills of everything that a regeneration is made of, at random, and then one more run: nothing is lost.

`SCOT_TEST_CHAOS=50` kills so often, shared among `scot run`, the same over Ray, and `make serve`, and prints
figures. The short form, four kills of `scot run`, is in test_run.py.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest

from scot_core.lake import Dataset, Lake
from scot_core.lake.manifest import MANIFEST
from tests.core.test_orphans import gone
from tests.flows.conftest import ROOT, START_LIMIT_S, Served, ask, free_port, wait_for
from tests.flows.test_ray import Nodes
from tests.flows.test_run import parts
from tests.flows.test_service_embedded import states
from tests.flows.test_service_serve import OVER, descendants, state, submit

KILLS = int(os.environ.get("SCOT_TEST_CHAOS", "0"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(0),
    pytest.mark.skipif(not KILLS, reason="takes an hour: SCOT_TEST_CHAOS=50"),
]
SHARE = 0.6  # of the steps of a run, those that are killed in
AT_ONCE = 8  # requests in flight
SETTINGS = ["captions.shard_rows=50", "seed.shard_rows=40", f"seed.endpoint.concurrency={AT_ONCE}", "finetune.steps=24",
            "finetune.checkpoint_every=6", "generate.shard_rows=40", "generate.batch_size=40", "embed.shard_rows=100",
            "train.checkpoint_every=20"]  # fmt: skip


class Teacher:
    """The endpoint, as a process of its own that is started again whenever it is killed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.answered: Counter[str] = Counter()
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "scot_core.catalogue.teacher", "--port", str(self.port)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def count(self) -> None:
        """Add what was answered since its last start."""
        with suppress(OSError), build_opener(ProxyHandler({})).open(f"http://127.0.0.1:{self.port}/_calls") as told:
            self.answered.update(json.load(told)["answered"])

    def kill(self) -> None:
        self.count()
        self.process.kill()
        self.process.wait()
        self.start()


class Watch:
    """What happens to parts: how many were written a second time."""

    def __init__(self, lake: Path) -> None:
        self._lake, self._seen = lake, dict[Path, int]()
        self.again = 0

    def look(self) -> None:
        for path in self._lake.glob("*/*/part-*.parquet"):
            with suppress(FileNotFoundError):
                number = path.stat().st_ino
                self.again += self._seen.get(path, number) != number
                self._seen[path] = number


class Moment:
    """When to kill: in a step of the run, at a random one of its shards."""

    def __init__(self, lake: Path, reference: Dataset, rng: random.Random) -> None:
        self.step, self._lake, self._made = reference.stage, lake, reference
        self._shard = rng.randrange(len(reference.parts))
        self._delay = rng.uniform(0.0, reference.usage.seconds / len(reference.parts))
        self._begun: float | None = None

    def has_come(self) -> bool:
        """Some time into the work on that shard."""
        if self._begun is None and (self.is_late or self._is_begun()):
            self._begun = time.monotonic()
        return self._begun is not None and (self.is_late or time.monotonic() >= self._begun + self._delay)

    def _is_begun(self) -> bool:
        if self._shard:
            return (self._lake / self._made.name / self._made.parts[self._shard - 1].name).exists()
        return all((self._lake / str(reference) / MANIFEST).exists() for reference in self._made.inputs)

    @property
    def is_late(self) -> bool:
        """Whether the step is done already."""
        return (self._lake / self._made.name / MANIFEST).exists()


def moments(lake: Path, reference: Path, rng: random.Random) -> list[Moment]:
    """Some steps of a run, in the order in which it comes to them."""
    steps = {made.stage: made for made in Lake(reference).datasets()}  # of several tables of a step, the last
    return [Moment(lake, made, rng) for made in steps.values() if rng.random() < SHARE]


class Alone:
    """`scot run`, in this machine's processes or over Ray."""

    def __init__(self, environment: dict[str, str], lake: Path, log: Path, settings: list[str]) -> None:
        sets = [word for setting in settings for word in ("--set", setting)]
        self._command = [sys.executable, "-m", "scot.cli", "run", "--profile", "smoke", "--lake", str(lake), *sets]
        self._environment, self._log = environment, log
        self._process: subprocess.Popen[bytes] | None = None

    def go_on(self) -> bool:
        """Start again what has ended. Returns True where it ended well."""
        if self._process is None or self._process.poll() not in (None, 0):
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command, env=self._environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
                )
        return self._process.poll() == 0

    def victims(self) -> dict[str, list[int]]:
        assert self._process is not None
        found = {"main process": [self._process.pid], "embedded server": [], "child": []}
        for pid, line in descendants(self._process.pid).items():
            if "scot.server" in line:
                found["embedded server"].append(pid)
            elif "spawn_main" in line:
                found["child"].append(pid)
        return found

    def still_running(self) -> list[str]:
        return [name for name, _ in states(Path(self._environment["PREFECT_HOME"])) if name in ("RUNNING", "PENDING")]

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()


class Service:
    """`make serve`, and `scot/regenerate` as a deployment."""

    def __init__(self, environment: dict[str, str], lake: Path, log: Path, settings: list[str]) -> None:
        port = free_port()
        env = {**environment, "SCOT_PREFECT_PORT": str(port), "SCOT_LAKE": str(lake)}
        self._parameters = {"profile_name": "smoke", "overrides": settings}
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "deployments.serve"], env=env, cwd=ROOT, stdout=file, stderr=file
            )
        self._served = Served(
            Lake(lake), {**env, "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}, self._process.pid, log
        )
        assert wait_for(lambda: "ready." in log.read_text(), START_LIMIT_S), log.read_text()[-3000:]
        self._run = submit(self._served, "regenerate", self._parameters)

    def go_on(self) -> bool:
        with suppress(OSError):  # the server is being started again
            ended = state(self._served, self._run)
            if ended in OVER - {"COMPLETED"}:
                self._run = submit(self._served, "regenerate", self._parameters)
            return ended == "COMPLETED"
        return False

    def victims(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {"server": [], "worker": [], "engine": [], "child": []}
        for pid, line in descendants(self._served.pid).items():
            for name, words in (("server", "scot.server"), ("worker", "--pool scot-"), ("engine", "prefect.engine"),
                                ("child", "spawn_main")):  # fmt: skip
                if words in line:
                    found[name].append(pid)
                    break
        return found

    def still_running(self) -> list[str]:
        wanted = {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}}
        assert wait_for(lambda: not ask(self._served, "flow_runs/filter", wanted), 300)
        return [run["name"] for run in ask(self._served, "flow_runs/filter", wanted)]

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(120)
        self._process.kill()


@pytest.fixture(scope="module")
def port() -> int:
    """Of every teacher: keys of seeds hold the address of their endpoint."""
    return free_port()


@pytest.fixture(scope="module")
def reference(environment: dict[str, str], port: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lake of a run that nobody disturbed."""
    folder, teacher = tmp_path_factory.mktemp("reference"), Teacher(port)
    env = {**environment, "OMP_NUM_THREADS": "1"}
    try:
        run = Alone(env, folder / "lake", folder / "log", [*SETTINGS, f"seed.endpoint.base_url={teacher.url}"])
        while not run.go_on():
            time.sleep(0.5)
    finally:
        teacher.process.kill()
    return folder / "lake"


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.mark.parametrize(("kind", "share"), [("alone", 0.4), ("ray", 0.3), ("service", 0.3)])
def test_nothing_is_lost(
    kind: str, share: float, environment: dict[str, str], port: int, reference: Path, home: Path, tmp_path: Path
) -> None:
    if kind == "ray":
        pytest.importorskip("ray", reason="needs the extra ray")
    mark, rng, teacher = uuid.uuid4().hex, random.Random(kind), Teacher(port)
    nodes = Nodes() if kind == "ray" else None
    env = {**environment, "PREFECT_HOME": str(home), "OMP_NUM_THREADS": "1", "SCOT_CHAOS": mark}
    if nodes is not None:
        env["SCOT_RAY"] = nodes.address
    killed, steps = Counter[str](), Counter[str]()
    lakes, again, late = 0, 0, 0
    answered: Counter[str] = Counter()
    started = time.monotonic()
    try:
        while killed.total() < KILLS * share:
            lakes += 1
            lake = tmp_path / f"lake-{lakes}"
            teacher.kill()  # it counts since its start
            run = (Service if kind == "service" else Alone)(
                env, lake, tmp_path / f"{lakes}.log", [*SETTINGS, f"seed.endpoint.base_url={teacher.url}"]
            )
            watch, teacher.answered = Watch(lake), Counter()
            try:
                coming = moments(lake, reference, rng)
                while not run.go_on():
                    watch.look()
                    time.sleep(0.05)
                    if coming and coming[0].has_come() and killed.total() < KILLS * share:
                        kinds: dict[str, Callable[[], None]] = {}
                        if coming[0].step == "seed":
                            kinds["teacher"] = teacher.kill
                        if nodes is not None:
                            kinds["Ray node"] = _lose(nodes)
                        for name, pids in run.victims().items():
                            if pids:
                                kinds[name] = _killing(rng.choice(pids))
                        if not kinds:
                            continue  # it is being started again
                        chosen = min(sorted(kinds), key=lambda name: (killed[name], rng.random()))
                        moment = coming.pop(0)
                        late += moment.is_late
                        kinds[chosen]()
                        killed[chosen] += 1
                        steps[moment.step] += 1
                        print(
                            f"{time.monotonic() - started:6.0f} s {kind} lake {lakes}: kill {killed.total()}, {chosen} "
                            f"in {moment.step}",
                            flush=True,
                        )
                watch.look()
                assert parts(lake) == parts(reference)
                for dataset in Lake(lake).datasets():
                    rows = dataset.manifest.rows
                    assert rows.given == rows.out + rows.rejected == rows.rejected + len(dataset.read()), dataset.name
                assert run.still_running() == []
            finally:
                run.stop()
            teacher.count()
            answered.update({f"{lakes} {caption}": times for caption, times in teacher.answered.items()})
            again += watch.again
            _nobody_is_left(mark)
    finally:
        teacher.process.kill()
        if nodes is not None:
            nodes.stop()
    repeated = sum(answered.values()) - len(answered)
    print(json.dumps({
        "kind": kind, "kills": killed, "in": steps, "late": late, "lakes": lakes,
        "seconds": round(time.monotonic() - started), "rows_lost": 0, "parts_written_again": again,
        "calls": sum(answered.values()), "calls_repeated": repeated,
    }))  # fmt: skip
    assert again <= 2 * killed.total(), "a shard in flight, of two tables at most"
    assert repeated <= AT_ONCE * killed.total()


def _killing(pid: int) -> Callable[[], None]:
    def kill() -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    return kill


def _lose(nodes: Nodes) -> Callable[[], None]:
    def lose() -> None:
        nodes.whole_again()
        nodes.kill_second()
        nodes.whole_again()

    return lose


def _marked(mark: str) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark.encode() in path.read_bytes():
                yield int(path.parent.name)


def _nobody_is_left(mark: str) -> None:
    assert wait_for(lambda: all(gone(pid) for pid in _marked(mark)), 60), list(_marked(mark))
