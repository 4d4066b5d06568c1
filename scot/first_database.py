"""A first database for a Prefect server: Prefect's migrations, over SQLite's own driver.

Prefect applies them over an asynchronous driver, where each of 34,000 statements waits for another thread: 6 s in place
of 2, before a first run begins. The schema is the same, and later migrations find the mark of those that were applied.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine


def create(file: Path) -> None:
    """Make it, whole or not at all, in a folder that is this process's alone; a file that is there stays as it is.

    Raises OSError where it cannot be written, what alembic and SQLite raise where a migration fails.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    if file.exists():
        return
    part = file.with_name(f".{file.name}.new")
    # A kill left the first; a server whose database somebody removed, the others, which SQLite would apply to this one.
    for left in (part, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")):
        left.unlink(missing_ok=True)
    try:
        _migrate(create_engine(f"sqlite:///{part}", poolclass=NullPool))
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.rename(file)
    finally:
        part.unlink(missing_ok=True)


def _migrate(engine: Engine) -> None:
    """As Prefect's own env.py does it, to a file that nobody else sees."""
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from prefect.server.database import provide_database_interface
    from prefect.server.database.alembic_commands import alembic_config

    prefect, config = provide_database_interface(), alembic_config()
    script = ScriptDirectory.from_config(config)
    script.version_locations = [str(prefect.orm.versions_dir)]
    upgrade = EnvironmentContext(config, script, fn=lambda current, _: script._upgrade_revs("head", current))
    with engine.connect() as connection, upgrade as context:
        connection.exec_driver_sql("PRAGMA legacy_alter_table = OFF")
        connection.exec_driver_sql("PRAGMA synchronous = OFF")  # it counts only when it is whole
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=prefect.Base.metadata,
            include_schemas=True,
            render_as_batch=True,
            transaction_per_migration=True,
        )
        with warnings.catch_warnings(), context.begin_transaction():
            warnings.filterwarnings("ignore", "Skipped unsupported reflection of expression-based index")
            context.run_migrations()
