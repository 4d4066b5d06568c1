"""Shards on Ray actors, on a real cluster of two nodes: the same tables, also when a node is killed meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from scot_core.config import EmbedConfig, profile, with_overrides
from scot_core.config.settings import settings
from scot_core.errors import DataError, ScotError
from scot_core.lake import Identity, Lake
from scot_core.stages import recipes
from scot_core.stages.embed.images import embed_images
from scot_core.stages.step import Committed, Step, Tick, Work, identities
from tasks.spread import hands_of
from tests.captioned import coco
from tests.flows.conftest import ROOT
from tests.flows.test_run import parts
from tests.running import run_here

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("SCOT_TEST_RAY" not in os.environ, reason="starts a Ray cluster: SCOT_TEST_RAY=1"),
]


class Nodes:
    """Two nodes on this machine, one CPU each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - its name; by default 15, too nice for a busy machine
        self._cluster: Any = _patiently(lambda: Cluster(initialize_head=True, head_node_args={"num_cpus": 1}))
        self.second = _patiently(lambda: self._cluster.add_node(num_cpus=1))
        self._cluster.wait_for_nodes()
        self.address = self._cluster.address

    def kill_second(self) -> None:
        self._cluster.remove_node(self.second, allow_graceful=False)

    def whole_again(self) -> None:
        """Both nodes, whatever a test has done."""
        if self.second not in self._cluster.list_all_nodes():
            self.second = _patiently(lambda: self._cluster.add_node(num_cpus=1))
            self._cluster.wait_for_nodes()

    def stop(self) -> None:
        import ray

        ray.shutdown()
        self._cluster.shutdown()


def _patiently(start: Callable[[], Any]) -> Any:
    """Ray gives a node 30 seconds to start, which on a busy machine is not always enough."""
    for _ in range(4):
        with suppress(Exception):
            return start()
    return start()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    pytest.importorskip("ray")
    nodes = Nodes()
    yield nodes
    nodes.stop()


@pytest.fixture
def nodes(cluster: Nodes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    """The cluster, as SCOT_RAY names it."""
    cluster.whole_again()
    monkeypatch.setenv("SCOT_RAY", cluster.address)
    settings.cache_clear()
    yield cluster
    settings.cache_clear()


class Number(Step):
    """Forty shards of one numbered triplet; each says in a file of its own that it was begun."""

    stage, name, spreads = "number", "number triplets", True

    def __init__(self, lake: Lake, begun: Path, fails: BaseException | None = None, dies: bool = False) -> None:
        super().__init__(lake)
        self._begun, self._fails, self._dies = begun, fails, dies
        begun.mkdir()

    @property
    def outputs(self) -> Mapping[str, Identity]:
        return identities("triplets", source="shop", label="number", sealed_as="number", version=1, config={})

    def shards(self) -> Sequence[int]:
        return [1] * 40

    def work(self, shard: int, tick: Tick) -> None:
        (self._begun / f"{shard}-{os.getpid()}").touch()
        if shard == 20 and self._fails is not None:
            raise self._fails
        if self._dies:
            os._exit(1)
        time.sleep(0.1)
        texts = ("source", "image_id", "kind", "caption", "modification", "modified_caption", "model")
        self.drafts["triplets"].write_part(shard, {**{name: ["x"] for name in texts}, "pair_id": [f"{shard:032x}"]})
        tick(1)


def spread(step: Work, at: Mapping[int, Callable[[], None]] | None = None) -> Committed:
    """Run a step as `run_step` does, without Prefect; call what is to be called when so many shards are done."""
    done: list[int] = []

    def run(shard: int) -> None:
        hands.run(shard, done.append)
        if at and len(done) in at:
            at[len(done)]()

    with step, hands_of(step) as hands, ThreadPoolExecutor(hands.parallel) as threads:
        assert hands is not step
        list(threads.map(run, range(len(step.shards()))))
        return step.commit()


def test_a_killed_node_costs_the_shard_it_was_at(nodes: Nodes, tmp_path: Path) -> None:
    run_here(Number(Lake(tmp_path / "here"), tmp_path / "a"))
    step = Number(Lake(tmp_path / "spread"), tmp_path / "b")
    committed = spread(step, {12: nodes.kill_second})
    assert parts(tmp_path / "spread") == parts(tmp_path / "here")
    begun = [path.name.split("-") for path in (tmp_path / "b").iterdir()]
    assert len({process for _, process in begun}) == 2, "both nodes worked"
    assert 40 <= len(begun) <= 41
    assert committed["triplets"].usage.seconds >= 4.0, "seconds of work are those of the actors"


def test_what_a_shard_raises_arrives_as_it_was_raised(nodes: Nodes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="this shard is broken") as raised:
        spread(Number(Lake(tmp_path / "lake"), tmp_path / "a", fails=DataError("this shard is broken")))
    assert type(raised.value) is DataError


def test_when_no_actor_is_left_everybody_is_told(nodes: Nodes, tmp_path: Path) -> None:
    with pytest.raises(ScotError, match="no Ray actor is left"):
        spread(Number(Lake(tmp_path / "lake"), tmp_path / "a", dies=True))


def test_captions_and_embeddings_are_those_of_one_process(nodes: Nodes, tmp_path: Path) -> None:
    config = with_overrides(
        profile("smoke"),
        ["captions.source=coco", f"captions.coco.root={coco(tmp_path / 'coco')}", "captions.shard_rows=2"],
    ).captions
    runs: dict[str, Callable[[Work], Any]] = {"here": run_here, "spread": spread}
    for name, run in runs.items():
        lake = Lake(tmp_path / name)
        pictures = recipes.captions(run, lake, config)
        run(embed_images(lake, EmbedConfig(encoder="catalogue"), pictures.captions))
    assert parts(tmp_path / "spread") == parts(tmp_path / "here")


@pytest.mark.timeout(3600)
def test_a_run_over_two_nodes_one_of_which_is_killed(nodes: Nodes, environment: dict[str, str], tmp_path: Path) -> None:
    """And the endpoint's key is in no log, no table and no database: it never leaves the process that asks."""
    command = [sys.executable, "-m", "scot.cli", "run", "--profile", "smoke", "--set", "generate.shard_rows=16"]
    canary = "sk-canary-9b1f6e0d7c2a4538"
    env = {**environment, "OMP_NUM_THREADS": "1", "SCOT_API_KEY": canary}
    for name, where in {"here": {}, "spread": {"SCOT_RAY": nodes.address}}.items():
        with (tmp_path / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "--lake", str(tmp_path / name)], env={**env, **where}, cwd=ROOT, stdout=log, stderr=log
            )
            while where and process.poll() is None:
                if list((tmp_path / name).glob("replies/*-generate-*/part-00001.parquet")):
                    nodes.kill_second()
                    break
                time.sleep(0.05)
            assert process.wait(1500) == 0, (tmp_path / f"{name}.log").read_text()[-3000:]
    assert parts(tmp_path / "spread") == parts(tmp_path / "here")
    assert "a Ray actor is lost" in (tmp_path / "spread.log").read_text()
    logs = Path("/tmp/ray/session_latest")
    for folder in (tmp_path, logs, Path(environment["PREFECT_HOME"])):
        held = [path for path in folder.rglob("*") if path.is_file() and canary.encode() in path.read_bytes()]
        assert held == []
