"""Runs that a server's database shows as running, and that no process works on any more."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

STALE = ("RUNNING", "PENDING", "CANCELLING")
CRASHED = {"type": "CRASHED", "message": "the process that ran it was killed"}


def crash_all(url: str) -> None:
    """Mark every flow and task run as crashed that has not ended. `url` is that of a server's API.

    Raises OSError, HTTPException or ValueError as the server, or its absence, makes them.
    """
    for kind in ("flow_runs", "task_runs"):
        list(_crash(url, kind))


def any_left(url: str) -> bool:
    """Whether a flow or task run has not ended. Raises as `crash_all` does."""
    wanted = {kind: {kind: {"state": {"type": {"any_": STALE}}}, "limit": 1} for kind in ("flow_runs", "task_runs")}
    return any(_post(f"{url}/{kind}/filter", asked) for kind, asked in wanted.items())


def crash_in_pools(url: str, pools: Sequence[str]) -> list[str]:
    """The same for the runs of some work pools, with their subflows and tasks; returns the ids of the flow runs."""
    crashed = found = list(_crash(url, "flow_runs", work_pools={"name": {"any_": list(pools)}}))
    while found:
        list(_crash(url, "task_runs", flow_run_id={"any_": found}))
        found = list(_crash(url, "flow_runs", parent_flow_run_id={"any_": found}))
        crashed = crashed + found
    return crashed


def _crash(url: str, kind: str, work_pools: dict[str, Any] | None = None, **filters: Any) -> Iterator[str]:
    """Ids of the runs that were marked."""
    wanted = {kind: {"state": {"type": {"any_": STALE}}, **filters}} | (
        {"work_pools": work_pools} if work_pools else {}
    )
    asked: set[str] = set()  # a server that keeps refusing is not asked for the same run twice
    while runs := [run for run in _post(f"{url}/{kind}/filter", wanted) if run["id"] not in asked]:
        for run in runs:
            asked.add(run["id"])
            _post(f"{url}/{kind}/{run['id']}/set_state", {"state": CRASHED, "force": True})
            yield run["id"]


def _post(url: str, body: object) -> Any:
    request = Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with build_opener(ProxyHandler({})).open(request, timeout=60) as answer:
        return json.load(answer)
