"""A first database of a Prefect server is the one that Prefect would have made."""

from __future__ import annotations

import os
import re
import shutil
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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A first database, made beside what a server left whose database was removed."""
    folder = tmp_path_factory.mktemp("new")
    database = sqlite3.connect(folder / "prefect.db")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE theirs (id)")
    database.commit()
    shutil.copy(folder / "prefect.db-wal", folder / "kept")  # as a kill leaves it
    database.close()
    (folder / "prefect.db").unlink()
    (folder / "kept").rename(folder / "prefect.db-wal")
    (folder / ".prefect.db.new").write_bytes(b"half")
    create(folder / "prefect.db")
    return folder / "prefect.db"


def test_it_is_the_one_that_prefect_makes(made: Path, tmp_path: Path) -> None:
    ours = schema(made)
    assert ours == schema(prefect_s(tmp_path)) and len(ours) > 100


def test_what_a_server_left_whose_database_was_removed_is_not_applied(made: Path) -> None:
    with sqlite3.connect(made) as ours:
        assert ours.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert ("table", "flow_run") in schema(made) and ("table", "theirs") not in schema(made)
    assert [file.name for file in made.parent.iterdir()] == ["prefect.db"]


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
