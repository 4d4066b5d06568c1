"""A step's progress in the Prefect UI."""

from __future__ import annotations

import logging
import re
import threading
from contextvars import copy_context
from typing import Self
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.context import FlowRunContext

from scot_core.stages.progress import Progress
from scot_core.stages.step import Work

logger = logging.getLogger(__name__)

PERIOD_S = 15.0
LEAVE_S = 5.0


class ProgressArtifact:
    """A listener that keeps one progress artifact of a step up to date while it is entered, and removes it then.

    A thread of its own sends the last that was heard every `period_s` seconds: shards never wait for the server, and a
    server on SQLite, which has one writer, is seldom asked to write. A step that ends sooner has no artifact. Where
    the server is gone, that is said once and the rest is left out.
    """

    every_s = 1.0

    def __init__(self, period_s: float = PERIOD_S) -> None:
        self._period = period_s
        self._heard: Progress | None = None
        self._over = threading.Event()
        run = FlowRunContext.get()
        self._flow_run = run.flow_run.id if run is not None and run.flow_run is not None else None
        context = copy_context()  # has Prefect's settings, the server's address among them
        self._thread = threading.Thread(target=lambda: context.run(self._send), name="progress artifact", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Waits a moment for the artifact to go, which nothing depends on."""
        self._over.set()
        self._thread.join(LEAVE_S)

    def begin(self, step: Work, total: int) -> None:
        """Nothing is shown of a step that may end at once."""

    def update(self, progress: Progress) -> None:
        self._heard = progress

    def end(self, step: Work, cached: bool) -> None:
        """`__exit__` ends it."""

    def fail(self, step: Work) -> None:
        """The same."""

    def _send(self) -> None:
        sent: Progress | None = None
        artifact: UUID | None = None
        try:
            while not (over := self._over.wait(self._period)) or artifact is not None:
                client = get_client(sync_client=True)  # the flow run's own, which is not this thread's to close
                if over and artifact is not None:
                    client.delete_artifact(artifact)
                    return
                heard = self._heard
                if heard is not None and heard is not sent:
                    artifact, sent = self._write(client, artifact, heard), heard
        except Exception as error:
            logger.warning("no more progress of this step is shown, the work goes on: %r", error)

    def _write(self, client: SyncPrefectClient, artifact: UUID | None, heard: Progress) -> UUID:
        percent, words = round(100 * heard.share, 1), str(heard)
        if artifact is not None:
            client.update_artifact(artifact, ArtifactUpdate(data=percent, description=words))
            return artifact
        key = re.sub(r"[^a-z0-9]+", "-", f"{heard.stage}-{heard.name}".lower()).strip("-")
        made = ArtifactCreate(type="progress", key=key, data=percent, description=words, flow_run_id=self._flow_run)
        return client.create_artifact(made).id
