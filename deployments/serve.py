"""Prefect server, pools, all deployments and a worker for each pool on one machine: `make serve`.

Server and workers are started again when they end, and end with this process.

On several machines the same parts are started one by one: see docs/operate.md.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

from deployments.agreed import HEARTBEAT_S, POOLS
from scot.kept import Kept, stop_all
from scot.server import answers, client_settings, listen
from scot.stale import crash_in_pools

HOME = Path(__file__).resolve().parent.parent
HOST, PORT = "127.0.0.1", int(os.environ.get("SCOT_PREFECT_PORT", "4200"))
API = f"http://{HOST}:{PORT}/api"
LAVIS_POOL, LAVIS_READY = "scot-lavis", HOME / "deployments" / "lavis" / ".venv" / ".ready"
START_LIMIT_S = 300
STOP_LIMIT_S = 15


def environment() -> dict[str, str]:
    """What server, workers and flow runs see."""
    lake = os.environ.get("SCOT_LAKE", "./lake")
    place = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser() / "scot"
    place.mkdir(parents=True, exist_ok=True)
    return {
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",  # events after 7 days, runs after 90
        **os.environ,
        **client_settings(API, place),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
        "SCOT_HOME": str(HOME),
        "SCOT_SERVICE": str(place / "service.lock"),
        "SCOT_LAKE": lake if "://" in lake else str(Path(lake).resolve()),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    env = environment()
    lock = _only_one(Path(env["SCOT_SERVICE"]))
    try:
        sock = listen(PORT)
    except OSError as error:
        raise SystemExit(f"port {PORT} cannot be taken ({error.strerror}); SCOT_PREFECT_PORT names another") from error
    print(f"starting the Prefect server at {API} (the first start sets up its database) ...", flush=True)
    kept = [_keep("the Prefect server", "scot.server", str(sock.fileno()), env=env, hand_down=[sock.fileno()])]
    try:
        _wait(kept[0])
        _mark_crashed(env)
        _set_up(env)
        kept += [
            _keep(f"the worker of {pool}", "deployments.worker", "--pool", pool, "--type", "process", env=env)
            for pool in POOLS
            if pool != LAVIS_POOL or LAVIS_READY.exists()  # without `make lavis` its runs wait
        ]
        print(
            f"\nready.\n  UI       http://{HOST}:{PORT}\n  lake     {env['SCOT_LAKE']}\n"
            f"  try      export PREFECT_API_URL={API}\n"
            f"           {Path(sys.executable).parent}/prefect deployment run scot/regenerate --watch\n"
            "Ctrl-C stops everything; what runs had finished stays in the lake.\n",
            flush=True,
        )
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        print("stopping ...", flush=True)
        os.close(lock)  # ends the runs
        stop_all(kept[1:], STOP_LIMIT_S)
        _mark_crashed(env)
        stop_all(kept[:1], STOP_LIMIT_S)


def _only_one(path: Path) -> int:
    """Lock a file for as long as this process lives; returns its descriptor. Raises SystemExit where another has it."""
    lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    end = time.monotonic() + STOP_LIMIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(OSError):  # a full disk: it only helps who comes next
                os.ftruncate(lock, 0)
                os.pwrite(lock, str(os.getpid()).encode(), 0)
            return lock
        except BlockingIOError:  # runs of one that was killed have it for a moment
            if _is_served(lock) or time.monotonic() > end:
                raise SystemExit(f"another `make serve` has locked {path}; PREFECT_HOME names another place") from None
            time.sleep(0.2)


def _is_served(lock: int) -> bool:
    """Whether the process that wrote itself down in a locked file is alive."""
    try:
        serving = int(os.pread(lock, 20, 0))
        if serving < 1:
            return False
        os.kill(serving, 0)
    except (ValueError, OverflowError, ProcessLookupError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _mark_crashed(env: dict[str, str]) -> None:
    """Nothing is running, at the start and at the end, whatever the database says, unless others share that."""
    urls = (env.get(f"PREFECT_{kind}_DATABASE_CONNECTION_URL", "") for kind in ("SERVER", "API"))
    if any(url.startswith("postgresql") for url in urls):
        return  # there runs are known by their heartbeats
    try:
        for run in crash_in_pools(API, list(POOLS)):
            print(f"flow run {run} was cut off: now Crashed", flush=True)
    except (OSError, HTTPException, ValueError) as error:
        print(f"runs that were cut off stay Running until the next start: {error!r}", flush=True)


def _keep(name: str, module: str, *arguments: str, env: dict[str, str], hand_down: Sequence[int] = ()) -> Kept:
    command = [sys.executable, "-m", module, *arguments]
    return Kept(name, command, env, say=lambda words: print(words, flush=True), hand_down=hand_down)


def _set_up(env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "deployments.set_up", "--deploy"]
    subprocess.run(command, env=env, cwd=HOME, check=True, stdout=subprocess.DEVNULL)


def _wait(server: Kept) -> None:
    end = time.monotonic() + START_LIMIT_S
    while not answers(API, limit_s=1):
        if server.lost is not None:
            raise SystemExit(server.lost)
        if time.monotonic() > end:
            raise SystemExit(f"the Prefect server did not answer at {API} within {START_LIMIT_S} s")
        time.sleep(0.1)
    server.proven = True


if __name__ == "__main__":
    main()
