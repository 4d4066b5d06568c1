"""Automations: dead runs are marked as crashed; runs that fail, crash or are not taken are told to a webhook.

After `kill -9`, a lost machine or an evicted container Prefect leaves the flow run `Running`. Runs started by a worker
send heartbeats; where they stop without a final state, the run becomes `Crashed`, and a new run of the same deployment
finishes the work.

The webhook is the Prefect block `webhook/scot-alerts`. Without it the alerts are events in the server's feed, no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, CallWebhook, ChangeFlowRunState, DoNothing
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound

HEARTBEAT_S = 30  # PREFECT_FLOWS_HEARTBEAT_FREQUENCY of the workers
SILENCE_S = 3 * HEARTBEAT_S
LATE_S = 600
ALERTS = "scot-alerts"
RUN = "prefect.flow-run."
# events carry the name of a state, not its type, so our own `Cached` is listed too
ENDINGS = {f"{RUN}{name}" for name in ("Completed", "Cached", "Failed", "Cancelled", "Crashed")}
EVERY_RUN = ResourceSpecification({"prefect.resource.id": [f"{RUN}*"]})
OF_SCOT = ResourceSpecification({"prefect.resource.id": ["prefect.tag.scot"], "prefect.resource.role": ["tag"]})
TEXT = (
    '{"text": "Scot: {{ flow_run.name }} is {{ flow_run.state.name }}: '
    '{{ (flow_run.state.message or "") | replace(\'"\', "\'") }} {{ flow_run | ui_url }}"}'
)


async def set_up(late_s: int = LATE_S) -> None:
    """Create the automations, or bring older ones up to date. A run is late after `late_s` seconds."""
    for wanted in _automations(late_s, await _alert()):
        try:
            existing = await Automation.aread(name=wanted.name)
        except ValueError:
            await wanted.acreate()
            continue
        wanted.id = existing.id
        await wanted.aupdate()


async def _alert() -> ActionTypes:
    try:
        async with get_client() as client:
            block = await client.read_block_document_by_name(ALERTS, "webhook")
    except ObjectNotFound:
        return DoNothing()
    return CallWebhook(block_document_id=block.id, payload=TEXT)


def _automations(late_s: int, alert: ActionTypes) -> Iterator[Automation]:
    yield Automation(
        name="scot: mark runs without heartbeat as crashed",
        description=f"Crashed after {SILENCE_S} s of silence",
        trigger=_missing(f"{RUN}heartbeat", {f"{RUN}heartbeat", *ENDINGS}, SILENCE_S),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, name=None, force=False, message=f"no heartbeat for {SILENCE_S} s"
            )
        ],
    )
    for ending in ("Failed", "Crashed"):
        yield Automation(
            name=f"scot: tell of runs that are {ending}",
            description=f"to the webhook {ALERTS}, where there is one",
            trigger=EventTrigger(
                expect={f"{RUN}{ending}"},
                match=EVERY_RUN,
                match_related=OF_SCOT,
                for_each={"prefect.resource.id"},
                posture=Posture.Reactive,
                threshold=1,
                within=timedelta(0),
            ),
            actions=[alert],
        )
    yield Automation(
        name="scot: tell of runs that nobody takes",
        description=f"{late_s} s after they were late: no worker, or all slots of the pool in use",
        trigger=_missing(f"{RUN}Late", {f"{RUN}Pending", f"{RUN}Running", *ENDINGS}, late_s, OF_SCOT),
        actions=[alert],
    )


def _missing(
    after: str, expected: set[str], within_s: int, related: ResourceSpecification | None = None
) -> EventTrigger:
    """Fires for a run that had the event `after`, and none of the expected within so many seconds."""
    return EventTrigger(
        after={after},
        expect=expected,
        match=EVERY_RUN,
        match_related=related or ResourceSpecification({}),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=within_s),
    )


if __name__ == "__main__":
    asyncio.run(set_up())
