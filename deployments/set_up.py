"""Pools and automations of the Prefect server at PREFECT_API_URL: `python -m deployments.set_up`, at any time again.

What somebody has changed since, a pool's limit say, stays as it is. With `--deploy` all deployments follow, by
Prefect's own command in the same process: importing Prefect a second time takes longer than the rest.
"""

from __future__ import annotations

import argparse
import asyncio
import runpy
import sys
from collections.abc import Sequence

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound
from prefect.workers.utilities import get_default_base_job_template_for_infrastructure_type

from deployments import automations
from deployments.agreed import POOLS


def pools() -> None:
    """Create the pools that are missing; a pool that has no limit gets its own."""
    template = asyncio.run(get_default_base_job_template_for_infrastructure_type("process"))
    with get_client(sync_client=True) as client:
        for name, limit in POOLS.items():
            try:
                found = client.read_work_pool(name)
            except ObjectNotFound:
                client.create_work_pool(
                    WorkPoolCreate(name=name, type="process", base_job_template=template or {}, concurrency_limit=limit)
                )
                continue
            if limit is not None and found.concurrency_limit is None:
                client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=limit))


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m deployments.set_up", description=__doc__.partition(":")[0] + ".")
    parser.add_argument("--deploy", action="store_true", help="and then all deployments, as `prefect deploy --all`")
    deploy = parser.parse_args(words).deploy
    pools()
    asyncio.run(automations.set_up(stale_h=automations.stale_hours()))
    if deploy:
        sys.argv = ["prefect", "--no-prompt", "deploy", "--all"]
        runpy.run_module("prefect", run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
