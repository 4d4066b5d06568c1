"""A first database of a Prefect server is the one that Prefect would have made."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scot import first_database
from scot.first_database import create
from scot.server import made_first

if TYPE_CHECKING:  # loads slowly, and the tests are many processes
    from sqlalchemy.engine import Engine


def schema(file: Path) -> dict[tuple[str, str], list[str]]:
    """Lines of what every table, index and trigger was made with: their order follows Python's hashes."""
    with sqlite3.connect(file) as database:
        found = database.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        (head,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return {("head", head): [], **{(kind, name): sorted(re.split(r",\s*|\n\s*", sql)) for kind, name, sql in found}}


def prefect_s(folder: Path) -> Path:
    given = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    own = {"PREFECT_HOME": str(folder), "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder}/theirs"}
    command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
    subprocess.run(command, env={**given, **own}, check=True, capture_output=True)
    return folder / "theirs"


def test_it_is_the_one_that_prefect_makes(database: Path, tmp_path: Path) -> None:
    ours = schema(database / "prefect.db")
    assert ours == schema(prefect_s(tmp_path)) and len(ours) > 100
    assert ("table", "flow_run") in ours


def test_what_a_server_left_whose_database_was_removed_is_not_applied(database: Path) -> None:
    with sqlite3.connect(database / "prefect.db") as ours:
        assert ours.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert ("table", "theirs") not in schema(database / "prefect.db")
    assert not (database / ".prefect.db.new").exists()
    assert "left to Prefect" not in (database / "server.log").read_text()


def test_one_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "prefect.db").write_bytes(b"theirs")
    create(tmp_path / "prefect.db")
    assert (tmp_path / "prefect.db").read_bytes() == b"theirs"


def test_one_that_cannot_be_made_whole_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(engine: Engine) -> None:
        Path(str(engine.url.database)).write_bytes(b"half")
        raise sqlite3.OperationalError("the disk is full")

    monkeypatch.setattr(first_database, "_migrate", half)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        create(tmp_path / "prefect.db")
    assert list(tmp_path.iterdir()) == []


def test_a_prefect_that_is_made_otherwise_makes_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def moved(engine: Engine) -> None:
        raise AttributeError("no versions_dir")

    monkeypatch.setattr(first_database, "_migrate", moved)
    assert not made_first(tmp_path / "prefect.db")
    assert list(tmp_path.iterdir()) == []
    assert "left to Prefect" in capsys.readouterr().err
