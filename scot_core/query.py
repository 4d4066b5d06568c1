"""SQL over the lake with DuckDB, core features only."""

from __future__ import annotations

import duckdb
import pyarrow as pa

from scot_core.errors import ConfigError
from scot_core.lake import Lake
from scot_core.lake.views import render_views


def connect(lake: Lake) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB with a view for every table of the lake (see `scot_core.lake.views`).

    Datasets that cannot be read are left out of the views: `Lake.damaged` says which and why.
    """
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    if lake.storage.is_local:
        root = f"{lake.storage.root}/"
    else:
        protocol = lake.storage.fs.protocol
        connection.register_filesystem(lake.storage.fs)
        root = f"{protocol if isinstance(protocol, str) else protocol[0]}://{lake.storage.root.lstrip('/')}/"
    connection.execute(render_views(lake.datasets(), root=root))
    return connection


def query(lake: Lake, sql: str) -> pa.Table:
    """The result of one SQL statement.

    Raises ConfigError with DuckDB's own words where it is wrong, LakeError where a file it reads is not there.
    """
    try:
        with connect(lake) as connection:
            result = connection.sql(sql)
            if result is None:
                raise ConfigError("the query is empty; try: select * from runs")
            return result.to_arrow_table()
    except duckdb.Error as error:
        for dataset in lake.datasets():
            dataset.check()
        raise ConfigError(f"the query failed: {error}") from error
