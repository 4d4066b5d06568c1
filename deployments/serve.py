"""Prefect server, pools, all deployments and a worker for each pool on one machine: `make serve`.

On several machines the same parts are started one by one: see docs/operate.md.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from deployments.automations import HEARTBEAT_S

HOME = Path(__file__).resolve().parent.parent
HOST, PORT = "127.0.0.1", int(os.environ.get("SCOT_PREFECT_PORT", "4200"))
API = f"http://{HOST}:{PORT}/api"
LAVIS_POOL, LAVIS_READY = "scot-lavis", HOME / "deployments" / "lavis" / ".venv" / ".ready"
POOLS = ("scot-cpu", "scot-gpu", LAVIS_POOL)
START_LIMIT_S = 240


def environment() -> dict[str, str]:
    """What server, workers and flow runs see."""
    lake = os.environ.get("SCOT_LAKE", "./lake")
    return {
        **os.environ,
        "PREFECT_API_URL": API,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
        "SCOT_HOME": str(HOME),
        "SCOT_LAKE": lake if "://" in lake else str(Path(lake).resolve()),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def prefect(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "prefect", "--no-prompt", *arguments]


def main() -> None:
    env = environment()
    running: list[subprocess.Popen[bytes]] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        print(f"starting the Prefect server at {API} (the first start sets up its database) ...", flush=True)
        running.append(
            subprocess.Popen(
                prefect("server", "start", "--host", HOST, "--port", str(PORT)), env=env, stdout=subprocess.DEVNULL
            )
        )
        _wait(running[0])
        _set_up(env)
        running += [
            subprocess.Popen(prefect("worker", "start", "--pool", pool, "--type", "process"), env=env)
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
        running[0].wait()
    except KeyboardInterrupt:
        print("stopping ...", flush=True)
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()


def _set_up(env: dict[str, str]) -> None:
    for pool in POOLS:
        subprocess.run(
            prefect("work-pool", "create", pool, "--type", "process", "--overwrite"),
            env=env,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    subprocess.run(prefect("deploy", "--all"), env=env, cwd=HOME, check=True, stdout=subprocess.DEVNULL)
    subprocess.run([sys.executable, "-m", "deployments.automations"], env=env, cwd=HOME, check=True)


def _wait(server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end:
        if server.poll() is not None:
            raise SystemExit(f"the Prefect server ended with code {server.returncode}; is port {PORT} in use?")
        try:
            with urlopen(f"{API}/health", timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.3)
    raise SystemExit(f"the Prefect server did not answer at {API} within {START_LIMIT_S} s")


if __name__ == "__main__":
    main()
