"""The automation that notices dead runs.

After `kill -9`, a lost machine or an evicted container Prefect leaves the flow run `Running`. Runs started by a worker
send heartbeats; where they stop without a final state, this automation marks the run `Crashed`, and a new run of the
same deployment finishes the work.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from prefect.automations import Automation
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

NAME = "scot: mark runs without heartbeat as crashed"
HEARTBEAT_S = 30  # PREFECT_FLOWS_HEARTBEAT_FREQUENCY of the workers
SILENCE_S = 3 * HEARTBEAT_S
HEARTBEAT = "prefect.flow-run.heartbeat"
# events carry the name of a state, not its type, so our own `Cached` is listed too
ENDINGS = {f"prefect.flow-run.{name}" for name in ("Completed", "Cached", "Failed", "Cancelled", "Crashed")}


async def set_up() -> None:
    """Create the automation, or bring an older one up to date."""
    wanted = _automation()
    try:
        existing = await Automation.aread(name=NAME)
    except ValueError:
        await wanted.acreate()
        return
    wanted.id = existing.id
    await wanted.aupdate()


def _automation() -> Automation:
    return Automation(
        name=NAME,
        description=f"Crashed after {SILENCE_S} s of silence",
        trigger=EventTrigger(
            after={HEARTBEAT},
            expect={HEARTBEAT, *ENDINGS},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=SILENCE_S),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, name=None, force=False, message=f"no heartbeat for {SILENCE_S} s"
            )
        ],
    )


if __name__ == "__main__":
    asyncio.run(set_up())
