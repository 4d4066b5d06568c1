"""The commands of the runbook are run, those that can be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.flows.conftest import Served, ask
from tests.flows.test_docs import COMMANDS, RUN, SCHEDULE, commands

# Those that are not run here, by their first words, and why.
NOT_RUN = {
    "deployment run": "test_deployments.py runs these, to their end",
    "server": "starts or changes another server",
    "worker": "another worker would take the runs of other tests",
    "deploy": "`make serve` has run it, and runs it below",
    "deployment delete": "other tests need the deployments",
    "work-pool delete": "other tests need the pools",
}


def test_the_runbooks_commands_run(served: Served, tmp_path: Path) -> None:
    deployment = ask(served, "deployments/name/scot/regenerate")["id"]
    later = {"state": {"type": "SCHEDULED", "state_details": {"scheduled_time": "2099-01-01T00:00:00Z"}}}
    ids = {RUN: str(ask(served, f"deployments/{deployment}/create_flow_run", later)["id"])}
    text = [c for c in commands() if c.where == "docs/operate.md" and c.program == "prefect"]
    for command in text:
        if any(" ".join(command.words).replace("--no-prompt ", "").startswith(words) for words in NOT_RUN):
            continue
        schedules = ask(served, f"deployments/{deployment}/schedules")
        if schedules:
            ids[SCHEDULE] = schedules[0]["id"]
        run = served.prefect(*(ids.get(word, word) for word in command.words))
        assert run.exit_code == 0, f"{command}: {run.output}"
        if "create" in command.words:  # what `make serve` does when it starts leaves the schedule as it is
            assert served.prefect("deploy", "-n", "regenerate").exit_code == 0
            assert len(ask(served, f"deployments/{deployment}/schedules")) == 1
    assert ask(served, f"flow_runs/{ids[RUN]}")["state_type"] == "CANCELLED"
    assert served.prefect("work-pool", "set-concurrency-limit", "scot-gpu", "1").exit_code == 0


def test_the_database_is_backed_up_while_the_server_runs(served: Served, tmp_path: Path) -> None:
    (backup,) = (c for c in COMMANDS if c.program == "python" and "backup" in str(c))
    home = Path(served.environment["PREFECT_HOME"])
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "prefect").symlink_to(home)
    subprocess.run([sys.executable, *backup.words], cwd=tmp_path, check=True)
    assert b"regenerate" in (tmp_path / "prefect-backup.db").read_bytes()
