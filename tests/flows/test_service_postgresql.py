"""The server on PostgreSQL: a throw-away cluster, schedules and deployments on it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.conftest import SMOKE, ask, free_port, wait_for
from tests.flows.test_service_in_time import scheduled
from tests.flows.test_service_serve import Service

BINARIES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(BINARIES is None, reason="needs PostgreSQL: apt-get install postgresql"),
    pytest.mark.skipif("SCOT_TEST_POSTGRESQL" not in os.environ, reason="takes minutes: SCOT_TEST_POSTGRESQL=1"),
]


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The URL of an empty database of a cluster of its own."""
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name  # it refuses to run as root
    folder, port = Path(tempfile.mkdtemp(prefix="scot-postgresql-")), free_port()
    shutil.chown(folder, user)

    def run(program: str, *arguments: str) -> None:
        assert BINARIES is not None
        command = [str(BINARIES / program), *arguments]
        subprocess.run(command, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)

    run("initdb", "-D", str(folder / "data"), "-U", "prefect", "--auth", "trust")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    run("pg_ctl", "-D", str(folder / "data"), "-l", str(folder / "log"), "-o", options, "-w", "start")
    try:
        run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "prefect", "prefect")
        yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"
    finally:
        run("pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(folder)


def test_schedules_and_deployments_run_on_it(environment: dict[str, str], postgresql: str, tmp_path: Path) -> None:
    own = {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_SERVER_DATABASE_CONNECTION_URL": postgresql}
    with Service({**environment, **own}, tmp_path) as service:
        served = service.served
        deployment = ask(served, "deployments/name/scot/captions")["id"]
        schedule = {"schedule": {"interval": 60}, "active": True, "parameters": SMOKE}
        ask(served, f"deployments/{deployment}/schedules", [schedule])
        assert wait_for(lambda: "COMPLETED" in scheduled(served, "captions")), scheduled(served, "captions")
        assert served.lake.table("captions").datasets()
    assert not (tmp_path / "prefect" / "prefect.db").exists()
