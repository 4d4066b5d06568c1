"""The server that a run brings along: its death, Ctrl-C, kills and damage, and what the next run finds."""

from __future__ import annotations

import os
import signal
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from urllib.error import HTTPError

import pytest

from scot.embedded import embedded_server
from scot.server import client_settings
from scot.stale import _post
from scot_core.errors import ScotError
from scot_core.lake import Lake
from tests.core.test_orphans import gone
from tests.flows.conftest import ROOT

LIMIT_S = 300
# shards enough to be killed between two of them, and little to compute
SMALL = (
    "--profile", "smoke", "--set", "captions.count=648", "--set", "captions.shard_rows=24",
    "--set", "captions.gallery=300", "--set", "captions.queries_per_split=4",
)  # fmt: skip


@pytest.fixture(scope="module")
def home(environment: dict[str, str]) -> Path:
    """Of Prefect, shared by the tests: making a database takes long."""
    return Path(environment["PREFECT_HOME"])


class Run:
    """`scot run` in the background, in a session of its own as a terminal would give it."""

    def __init__(self, environment: dict[str, str], lake: Path, until: str = "captions") -> None:
        command = [sys.executable, "-m", "scot.cli", "run", "--lake", str(lake), "--until", until, *SMALL]
        self.lake = lake
        self.process = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip

    def until(self, what: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT_S
        while not what():
            assert self.process.poll() is None and time.monotonic() < end, self.said()
            time.sleep(0.03)

    def children(self) -> list[int]:
        """Process ids of the run's children."""
        found = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for path in found for pid in path.read_text().split()]

    def server(self) -> int | None:
        """Process id of the embedded server, where there is one."""
        for pid in self.children():
            if b"scot.server" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        return None

    def kill_server(self) -> None:
        self.until(lambda: self.server() is not None)
        server = self.server()
        assert server is not None  # 0 would be this process's own group
        os.kill(server, signal.SIGKILL)

    def parts(self) -> int:
        return len(list(self.lake.glob("captions/*/part-*.parquet")))

    def said(self) -> str:
        try:
            return self.process.communicate(timeout=LIMIT_S)[0]
        finally:
            self.process.kill()


def states(home: Path) -> list[tuple[str, int]]:
    """Types of the states of flow and task runs in the first embedded database, and how many there are."""
    with sqlite3.connect(home / "scot" / "0" / "prefect.db") as database:
        query = "select state_type from flow_run union all select state_type from task_run"
        return database.execute(f"select state_type, count(*) from ({query}) group by 1").fetchall()


def test_a_killed_server_is_started_again_and_the_run_completes(
    environment: dict[str, str], home: Path, tmp_path: Path
) -> None:
    run = Run(environment, tmp_path / "lake", until="seed")
    run.kill_server()  # while it starts
    run.until(lambda: run.parts() > 2)
    run.kill_server()
    said = run.said()
    assert run.process.returncode == 0, said
    assert said.count("the embedded Prefect server was killed by SIGKILL; starting it again") == 2
    assert Lake(tmp_path / "lake").table("triplets").datasets()
    assert "RUNNING" not in dict(states(home))


def test_kill_9_of_a_run_leaves_no_process_and_the_next_start_marks_its_runs_crashed(
    environment: dict[str, str], home: Path, tmp_path: Path
) -> None:
    run = Run(environment, tmp_path / "lake")
    run.until(lambda: run.parts() > 2)
    children = run.children()
    run.process.kill()
    run.process.wait()
    end = time.monotonic() + 60
    while not all(gone(pid) for pid in children):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert len(children) > 2 and "RUNNING" in dict(states(home))
    again = Run(environment, tmp_path / "lake")
    assert "R@1" in again.said() or again.process.returncode == 0
    after = dict(states(home))
    assert "RUNNING" not in after and after["CRASHED"] >= 2


def test_ctrl_c_of_the_whole_group_leaves_the_server_to_the_run(
    environment: dict[str, str], home: Path, tmp_path: Path
) -> None:
    run = Run(environment, tmp_path / "lake")
    run.until(lambda: run.parts() > 2)
    server = run.server()
    os.killpg(run.process.pid, signal.SIGINT)
    said = run.said()
    assert run.process.returncode == 130 and "goes on from there" in said
    assert "starting it again" not in said and "Traceback" not in said
    assert server is not None and gone(server)


def test_a_server_that_cannot_start_is_said_at_once_with_its_log(environment: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "prefect" / "scot" / "0"
    folder.mkdir(parents=True)
    (folder / "prefect.db").write_bytes(b"no database at all" * 1000)
    run = Run({**environment, "PREFECT_HOME": str(tmp_path / "prefect")}, tmp_path / "lake")
    said = run.said()
    assert run.process.returncode == 1
    assert "error: the embedded Prefect server ended with exit code 3" in said and "Traceback" not in said
    assert "file is not a database" in said and str(folder / "server.log") in said


def test_clients_of_a_server_on_this_machine_read_one_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://127.0.0.1:1/api"
    (tmp_path / "certificate.pem").write_text("cut off")
    monkeypatch.chdir(tmp_path.parent)
    told = client_settings(url, Path(tmp_path.name))  # those who read it are elsewhere
    assert told == {"PREFECT_API_URL": url, "PREFECT_API_SSL_CERT_FILE": str(tmp_path / "certificate.pem")}
    assert len(ssl.create_default_context(cafile=told["PREFECT_API_SSL_CERT_FILE"]).get_ca_certs()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["certificate.pem"]
    assert client_settings(url, tmp_path / "nowhere") == {"PREFECT_API_URL": url}


def test_runs_side_by_side_have_databases_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    with embedded_server() as one, embedded_server() as other:
        assert one.url != other.url
        assert sorted(path.name for path in (tmp_path / "scot").iterdir()) == ["0", "1"]
    with embedded_server():
        assert sorted(path.name for path in (tmp_path / "scot").iterdir()) == ["0", "1"]


def begin(url: str) -> tuple[str, str]:
    """Begin a run of a flow with one task; returns the ids of both runs."""
    flow = _post(f"{url}/flows/", {"name": "forgotten"})
    running = {"type": "RUNNING"}
    run = _post(f"{url}/flow_runs/", {"flow_id": flow["id"], "state": running})
    task = {"flow_run_id": run["id"], "task_key": "shard", "dynamic_key": "0", "state": running}
    return run["id"], _post(f"{url}/task_runs/", task)["id"]


def complete(url: str, kind: str, one: str) -> None:
    _post(f"{url}/{kind}/{one}/set_state", {"state": {"type": "COMPLETED"}, "force": True})


def test_a_state_that_cannot_be_mended_stops_no_run_and_one_that_is_written_late_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], home: Path
) -> None:
    def busy(url: str, body: object) -> None:
        raise HTTPError(url, 503, "database is locked", Message(), None)

    monkeypatch.setenv("PREFECT_HOME", str(home))
    monkeypatch.setattr("scot.stale._post", busy)
    with embedded_server() as server:
        server.wait_until_ready()
        monkeypatch.setattr("scot.stale._post", _post)
        run, task = begin(server.url)
        before = dict(states(home))
        complete(server.url, "flow_runs", run)
        late = threading.Timer(0.5, complete, (server.url, "task_runs", task))
        late.start()
    late.join()
    assert "stays so until the next run" in capfd.readouterr().err
    assert dict(states(home)) == Counter(before) + Counter(COMPLETED=2) - Counter(RUNNING=2)


def test_what_a_killed_server_forgot_has_ended_when_the_run_has_and_what_is_older_than_90_days_is_removed(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(home))
    monkeypatch.setattr("scot.embedded.SETTLE_LIMIT_S", 1.0)

    def old() -> int:
        with sqlite3.connect(home / "scot" / "0" / "prefect.db") as database:
            query = "select count(*) from flow_run where end_time < datetime('now', '-90 days')"
            return int(database.execute(query).fetchone()[0])

    with embedded_server() as server:
        server.wait_until_ready()
        run, _ = begin(server.url)  # its task is killed with the server
        complete(server.url, "flow_runs", run)
        past, _ = begin(server.url)
        complete(server.url, "flow_runs", past)
        first, end = server.pid, time.monotonic() + LIMIT_S
        os.kill(first, signal.SIGKILL)
        with sqlite3.connect(home / "scot" / "0" / "prefect.db") as database:
            database.execute("update flow_run set end_time = datetime('now', '-91 days') where id = ?", [past])
        assert old() == 1
        while server.pid == first or old():
            assert time.monotonic() < end, states(home)
            time.sleep(0.1)
    after = dict(states(home))
    assert "RUNNING" not in after and after["CRASHED"] >= 1


@pytest.mark.slow
def test_a_server_that_keeps_dying_ends_the_run_with_one_error(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(home))
    with pytest.raises(ScotError, match="was killed by SIGKILL, 6 times"), embedded_server() as server:
        server.wait_until_ready()
        killed, end = 0, time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            if server.pid != killed and not gone(server.pid):
                killed = server.pid
                os.kill(killed, signal.SIGKILL)
            time.sleep(0.1)
