"""Automations: dead runs are marked as crashed; a webhook is told of what somebody has to look at: runs that fail,
crash, are not taken or end at a gate, and that there has been no new generation for long.

After `kill -9`, a lost machine or an evicted container Prefect leaves the flow run `Running`. Runs started by a worker
send heartbeats; where they stop without a final state, the run becomes `Crashed`, and a new run of the same deployment
finishes the work.

The webhook is the Prefect block `webhook/scot-alerts`. Without it the alerts are events in the server's feed, no more.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, CallWebhook, ChangeFlowRunState, DoNothing
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound

from deployments.agreed import HEARTBEAT_S
from tasks.generation import MADE
from tasks.states import CACHED, GATE

SILENCE_S = 3 * HEARTBEAT_S
LATE_S = 600
START_S = 600
STALE_H = 50.0  # two nights, and some time to work
ALERTS = "scot-alerts"
RUN = "prefect.flow-run."
# events carry the name of a state, not its type, so our own `Cached` is listed too
ENDINGS = {f"{RUN}{name}" for name in ("Completed", CACHED, "Failed", GATE, "Cancelled", "Crashed")}
STARTED = ("Running", "Scheduled", "Late", "AwaitingRetry", "AwaitingConcurrencySlot")  # or handed back
EVERY_RUN = ResourceSpecification({"prefect.resource.id": [f"{RUN}*"]})
OF_SCOT = ResourceSpecification({"prefect.resource.id": ["prefect.tag.scot"], "prefect.resource.role": ["tag"]})
STALE = '{{"text": "Scot: no new generation for {hours:g} hours; see scot runs, and the runs of scot/regenerate"}}'
TEXT = (
    '{"text": "Scot: {{ flow_run.name }} is {{ flow_run.state.name }}: '
    '{{ (flow_run.state.message or "") | replace(\'"\', "\'") }} {{ flow_run | ui_url }}"}'
)


def stale_hours() -> float:
    """SCOT_STALE_HOURS, where it is set. Raises SystemExit where it is no number of hours."""
    said = os.environ.get("SCOT_STALE_HOURS", f"{STALE_H}")
    try:
        hours = float(said)
    except ValueError:
        hours = 0.0
    if not 0 < hours < 24 * 366:
        raise SystemExit(f"SCOT_STALE_HOURS={said} is no number of hours, such as {STALE_H:g}")
    return hours


async def set_up(late_s: int = LATE_S, stale_h: float = STALE_H, start_s: int = START_S) -> None:
    """Create the automations, or bring those up to date that differ: what one waits for begins anew when it is changed.

    Args:
        late_s: seconds after which a run is late.
        start_s: seconds after which a run that a worker took must run.
        stale_h: hours without a new generation that are told of.
    """
    for wanted in [
        *_automations(late_s, start_s, await _alert(TEXT)),
        _stale(stale_h, await _alert(STALE.format(hours=stale_h))),
    ]:
        try:
            existing = await Automation.aread(name=wanted.name)
        except ValueError:
            await wanted.acreate()
            continue
        if _content(existing) != _content(wanted):
            wanted.id = existing.id
            await wanted.aupdate()


def _content(automation: Automation) -> dict[str, Any]:
    content = automation.model_dump(exclude={"id": True, "trigger": {"id"}})
    return {**content, "enabled": True}  # who turned one off keeps it off until it is changed


async def _alert(text: str) -> ActionTypes:
    try:
        async with get_client() as client:
            block = await client.read_block_document_by_name(ALERTS, "webhook")
    except ObjectNotFound:
        return DoNothing()
    return CallWebhook(block_document_id=block.id, payload=text)


def _automations(late_s: int, start_s: int, alert: ActionTypes) -> Iterator[Automation]:
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
    yield Automation(
        name="scot: mark runs that were taken and never started as crashed",
        description=f"their worker was killed; they would hold the slot of scot/regenerate: after {start_s} s",
        trigger=_missing(f"{RUN}Pending", {f"{RUN}{name}" for name in STARTED} | ENDINGS, start_s),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name=None,
                force=False,
                message=f"taken by a worker, not started in {start_s} s",
            )
        ],
    )
    for ending in ("Failed", "Crashed", GATE):
        yield Automation(
            name=f"scot: tell of runs that {'end at a gate' if ending == GATE else f'are {ending}'}",
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


def _stale(hours: float, alert: ActionTypes) -> Automation:
    return Automation(
        name="scot: tell where there is no new generation",
        description=f"for {hours:g} hours; a regeneration that finds everything done makes none",
        trigger=EventTrigger(
            expect={MADE}, match=ResourceSpecification({"prefect.resource.id": ["scot.generation.*"]}),
            posture=Posture.Proactive, threshold=1, within=timedelta(hours=hours),
        ),
        actions=[alert],
    )  # fmt: skip


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
    asyncio.run(set_up(stale_h=stale_hours()))
