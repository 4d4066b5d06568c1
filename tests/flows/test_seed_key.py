"""The endpoint's key is used, and is nowhere afterwards: not in the lake, Prefect's database, a log or the output."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pyarrow.parquet as pq
import pytest

from scot.embedded import embedded_server
from scot_core.catalogue.teacher import serve
from scot_core.config import SeedConfig
from scot_core.lake import Lake
from tests.flows.conftest import ROOT
from tests.seeding import commit_captions, seed_config
from tests.teacher_faults import BatchFaults, Fault, Faults

pytestmark = pytest.mark.slow

CANARY = "sk-canary-9b1f6e0d7c2a4538"

# What a server may do with a key: use it, quote it in errors of the whole, of a row, and of a batch.
KINDS = {
    "good": Faults(),
    "row errors": Faults({Fault.BAD_REQUEST: 0.3, Fault.FILTERED: 0.2}),
    "refused": Faults({Fault.UNAUTHORISED: 1.0}),
    "all turned down": Faults({Fault.BAD_REQUEST: 1.0}),
    "server errors": Faults({Fault.SERVER_ERROR: 1.0}, first_attempts=None),
    "batch": Faults(batches=BatchFaults(expiring=1)),
    "batch refused": Faults(batches=BatchFaults(calls=(Fault.UNAUTHORISED,) * 99)),
    "batch turned down": Faults(batches=BatchFaults(calls=(Fault.SLOW,) + (Fault.BAD_REQUEST,) * 99)),
}
SUCCEED = {"good", "row errors", "batch"}

SCRIPT = """
import json, os, sys
told = json.load(sys.stdin)
from prefect.blocks.system import Secret
from flows.seed import seed
from scot_core.config import SeedConfig
def run(lake, configs):
    ends = []
    for name, config in configs.items():
        state = seed(SeedConfig.model_validate(config), lake=lake, return_state=True)
        print(name, state.name, state.message)
        ends += [name] if state.is_completed() else []
    return ends
ends = {"environment": run(*told["environment"])}
del os.environ["SCOT_API_KEY"]
Secret(value=told["key"]).save("scot-api-key")
ends["block"] = run(*told["block"])
print("ENDS " + json.dumps(ends))
"""
TALKATIVE = {
    "PREFECT_LOGGING_LEVEL": "DEBUG",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "openai,httpx2,httpcore2,stamina,scot_core",
    "OPENAI_LOG": "debug",
}


@pytest.fixture(scope="module")
def talkative(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """An environment in which the server and its runs write down as much as they can."""
    with pytest.MonkeyPatch.context() as patch:
        known = {"SCOT_API_KEY": CANARY}  # to a server that a run brings along
        for name, value in {"PREFECT_HOME": environment["PREFECT_HOME"], **TALKATIVE, **known}.items():
            patch.setenv(name, value)
        with embedded_server() as server:
            server.wait_until_ready()
            yield {**environment, **TALKATIVE, **server.client}


@contextmanager
def teachers(kinds: Iterable[str]) -> Iterator[dict[str, str]]:
    with ExitStack() as stack:
        yield {kind: stack.enter_context(serve(faults=KINDS[kind])) for kind in kinds}


def _config(name: str, url: str, seed: int) -> SeedConfig:
    mode = "batch" if name.startswith("batch") else "chat"
    return seed_config(url, mode=mode, poll_s=0.05, attempts=2, seed=seed)


def _run(known: dict[str, str], **told: object) -> tuple[dict[str, list[str]], str]:
    """Run the seed flow once for each configuration, with the key in the environment and then in a Secret block;
    returns which completed, and everything that was printed.
    """
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=json.dumps({"key": CANARY, **told}), env=known, cwd=ROOT,
        capture_output=True, text=True, timeout=540,
    )  # fmt: skip
    said = run.stdout + run.stderr
    assert run.returncode == 0, said[-4000:]
    ends = [line for line in run.stdout.splitlines() if line.startswith("ENDS ")]
    return json.loads(ends[0].removeprefix("ENDS ")), said


def _holding(words: str, folders: Sequence[Path]) -> list[str]:
    """Files that hold the words, in their bytes or, where they are compressed, in their rows."""
    found = []
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content += str(pq.read_table(path).to_pylist()).encode()
        if words.encode() in content:
            found.append(str(path))
    return found


def _keys(url: str) -> list[str]:
    with build_opener(ProxyHandler({})).open(url.removesuffix("/v1") + "/_calls") as response:
        return list(json.load(response)["keys"])


def _digest(key: str) -> str:
    return hashlib.blake2b(json.dumps([f"Bearer {key}"]).encode(), digest_size=16).hexdigest()


def test_a_key_of_the_environment_or_of_a_secret_block_is_used_and_found_nowhere(
    talkative: dict[str, str], tmp_path: Path
) -> None:
    home, lakes = Path(talkative["PREFECT_HOME"]), [Lake(tmp_path / place) for place in ("environment", "block")]
    with teachers(KINDS) as every, teachers(("good", "refused")) as few:
        told = {}
        for lake, urls in zip(lakes, (every, few), strict=True):
            commit_captions(lake)
            configs = {name: _config(name, url, seed) for seed, (name, url) in enumerate(urls.items())}
            told[Path(lake.url).name] = lake.url, {name: one.model_dump(mode="json") for name, one in configs.items()}
        completed, said = _run({**talkative, "SCOT_API_KEY": CANARY}, **told)
        assert set(completed["environment"]) == SUCCEED and completed["block"] == ["good"]
        assert _keys(every["good"]) == _keys(few["good"]) == [_digest(CANARY)]
    assert CANARY not in said
    assert "refuses the key" in said and "turned down 8 requests" in said
    database = list(home.rglob("prefect.db"))
    assert database and b"refuses the key" in b"".join(path.read_bytes() for path in home.rglob("prefect.db*"))
    written = [Path(lake.url) for lake in lakes]
    assert _holding(CANARY, [home, *written]) == []
    assert _holding("error_bad_request", written[:1])  # the search does look inside
