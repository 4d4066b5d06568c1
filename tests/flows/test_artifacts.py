"""What the Prefect UI is shown: as it is, seldom, and never at the cost of the work. No server."""

from __future__ import annotations

import html
import logging
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

import tasks.artifacts
import tasks.progress
from scot_core.printable import printable
from scot_core.stages.progress import Progress
from tasks.artifacts import benchmark_artifact, markdown, samples_artifact
from tasks.progress import ProgressArtifact


def gone(*_: object, **__: object) -> None:
    raise httpx.ConnectError("All connection attempts failed")


@given(st.text(min_size=1))
@example('a | b\n| c <script>alert("x")</script> [x](http://a.b) **c** `d` ![e](f) www.g.h &amp; \\| ~~i~~ \x1b[31m')
def test_a_cell_shows_a_text_as_it_is(text: str) -> None:
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    rendered = page.render(f"| a | b |\n| --- | --- |\n| {markdown(text)} | end |")
    cells = re.findall(r"<td>(.*?)</td>", rendered, re.DOTALL)
    assert [html.unescape(cell) for cell in cells] == [printable(text).strip(), "end"]
    assert "<" not in cells[0]


def test_artifacts_that_cannot_be_made_are_reported_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tasks.artifacts, "create_markdown_artifact", gone)
    monkeypatch.setattr(tasks.artifacts, "create_table_artifact", gone)
    dataset: Any = type("Rows", (), {"read": lambda self, columns=None: Table()})()
    with caplog.at_level(logging.WARNING):
        samples_artifact.fn(dataset)
        benchmark_artifact.fn(dataset)
    assert [record.getMessage().split(" is")[0] for record in caplog.records] == [
        "samples_artifact", "benchmark_artifact",
    ]  # fmt: skip


class Table:
    """One row of every column."""

    def to_pylist(self) -> list[dict[str, Any]]:
        texts = dict.fromkeys(("caption", "modification", "modified_caption", "split", "method"), "a")
        return [{**texts, "benchmark": "catalogue", "metric": "R@1", "value": 1.0, "low": 0.0, "high": 2.0}]


class Server:
    """What a client sends."""

    def __init__(self, alive: int = 1000) -> None:
        self.sent: list[ArtifactCreate | ArtifactUpdate] = []
        self._alive = alive
        self.removed = False

    def _take(self, artifact: ArtifactCreate | ArtifactUpdate) -> None:
        self.sent.append(artifact)
        if len(self.sent) > self._alive:
            gone()

    def create_artifact(self, artifact: ArtifactCreate) -> Any:
        self._take(artifact)
        return type("Made", (), {"id": uuid4()})()

    def update_artifact(self, artifact_id: object, artifact: ArtifactUpdate) -> None:
        self._take(artifact)

    def delete_artifact(self, artifact_id: object) -> None:
        self.removed = True


def listening(monkeypatch: pytest.MonkeyPatch, server: Server, period_s: float) -> ProgressArtifact:
    monkeypatch.setattr(tasks.progress, "get_client", lambda **_: server)
    return ProgressArtifact(period_s)


def progress(done: int) -> Progress:
    return Progress("generate", "write triplets: try 1", "replies", done, 1000, 1.0)


def test_a_step_that_ends_soon_has_no_artifact(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    with listening(monkeypatch, server, period_s=60) as artifact:
        for done in range(1001):
            artifact.update(progress(done))
    assert server.sent == []


def test_what_was_heard_is_sent_once_and_the_artifact_goes_with_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    with listening(monkeypatch, server, period_s=0.01) as artifact:
        for done in range(0, 1000, 5):
            artifact.update(progress(done))
        while not server.sent:
            pass
        artifact.update(progress(1000))
        while server.sent[-1].data != 100.0:
            pass
        assert not server.removed
    assert server.removed
    first = server.sent[0]
    assert isinstance(first, ArtifactCreate) and first.key == "generate-write-triplets-try-1"
    assert all(isinstance(update, ArtifactUpdate) for update in server.sent[1:])
    assert len({update.data for update in server.sent}) == len(server.sent)


@pytest.mark.parametrize("alive", [0, 1])
def test_a_server_that_is_gone_is_reported_once_and_stops_nothing(
    alive: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(alive)
    with caplog.at_level(logging.WARNING), listening(monkeypatch, server, period_s=0.01) as artifact:
        done = 0
        while len(server.sent) <= alive:
            done += 1
            artifact.update(progress(done))
        for _ in range(100):
            artifact.update(progress(done))
    assert len(server.sent) == alive + 1
    assert [record.getMessage() for record in caplog.records] == [
        "no more progress of this step is shown, the work goes on: ConnectError('All connection attempts failed')"
    ]
