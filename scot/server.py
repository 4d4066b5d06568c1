"""A Prefect server on a socket that whoever keeps it holds open: `python -m scot.server DESCRIPTOR [DATABASE]`.

The database is named by who keeps a folder for this server alone: where it is not there yet, it is made at once.

While the server is down, connections wait in the socket instead of being refused, and nobody else takes its port.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import ProxyHandler, build_opener

from scot.kept import leave_with_keeper
from scot_core.garbage import loading, look_seldom

if TYPE_CHECKING:  # whoever keeps a server has no use for it
    from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

GRACE_S = 5


def listen(port: int = 0) -> socket.socket:
    """A listening loopback socket; port 0 is any that is free. Raises OSError where the port is taken."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # asyncio does so for sockets that it made itself; else an answer in two pieces waits 40 ms for a delayed ACK
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(1024)
    return sock


def answers(url: str, limit_s: float = 5) -> bool:
    """True where a Prefect server says that it is well."""
    try:
        with build_opener(ProxyHandler({})).open(f"{url}/health", timeout=limit_s):
            return True
    except OSError:
        return False


def client_settings(url: str, folder: Path) -> dict[str, str]:
    """What Prefect's clients are told of a server on this machine, to which nothing is said in cipher.

    Each of them reads the certificates of all authorities, for 20 ms of a core, and `prefect deploy --all` makes sixty.
    Here they read one, in a file of the folder, and nothing is ever checked against it.
    """
    import certifi

    one, last = folder.resolve() / "certificate.pem", b"-----END CERTIFICATE-----"
    part = one.with_name(f".{one.name}.{os.getpid()}")  # others may start now, too
    try:
        part.write_bytes(Path(certifi.where()).read_bytes().partition(last)[0] + last + b"\n")
        part.rename(one)  # at every start anew: a damaged one would stop each client
    except OSError:  # a full disk: it only saves time
        with suppress(OSError):
            part.unlink()
        return {"PREFECT_API_URL": url}
    return {"PREFECT_API_URL": url, "PREFECT_API_SSL_CERT_FILE": str(one)}


def made_first(database: Path) -> bool:
    """Whether it is there; where this Prefect is set up otherwise than those that are known, it is left to Prefect."""
    try:
        from scot.first_database import create

        create(database)
    except (ImportError, AttributeError) as error:
        print(f"the first database is left to Prefect: {error!r}", file=sys.stderr)
        return False
    return True


def main(descriptor: int, own: Path | None = None) -> None:
    """Serve Prefect's API, its interface and its services, as the environment sets them, until SIGTERM."""
    leave_with_keeper()
    look_seldom()
    with loading():
        import uvicorn
        from prefect.server.api.server import create_app
        from prefect.server.database.configurations import AioSqliteConfiguration
        from prefect.server.database.dependencies import temporary_database_config
        from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL

    class OneWriter(AioSqliteConfiguration):
        """Transactions that write take SQLite's only write lock when they begin, and wait for it in line.

        Prefect begins most of them deferred. One that has read cannot be made a writer once another has committed:
        SQLite refuses at once, whatever the time-out, and "database is locked" is answered as 503.
        """

        @asynccontextmanager
        async def begin_transaction(
            self, session: AsyncSession, with_for_update: bool = False
        ) -> AsyncGenerator[AsyncSessionTransaction, None]:
            async with super().begin_transaction(session, with_for_update=True) as transaction:
                yield transaction

    url = PREFECT_API_DATABASE_CONNECTION_URL.value()
    if own is not None:
        made_first(own)
    database = temporary_database_config(OneWriter(url)) if url.startswith("sqlite") else nullcontext()
    with database:
        with loading():
            app = create_app(final=True)
        config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=GRACE_S)
        uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    main(int(sys.argv[1]), *map(Path, sys.argv[2:]))
