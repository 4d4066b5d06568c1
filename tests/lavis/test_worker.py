"""`scot/embed-lavis` for real: server, worker, a flow run in LAVIS's environment, vectors in the lake."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import numpy as np
import pytest

from scot_core import encoders
from scot_core.config import CaptionsConfig
from scot_core.config.settings import settings
from scot_core.lake import Dataset, Identity, Lake
from scot_core.stages import recipes
from scot_core.stages.embed.images import stored_picture
from scot_core.stages.embed.vectors import vectors_by_id
from tests.flows.conftest import Served
from tests.flows.conftest import served as served
from tests.lavis.conftest import Both, needs_lavis
from tests.running import run_here

pytestmark = [needs_lavis, pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="session")
def environment(small: Both, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """For server, worker and flow runs: theirs are the weights of `small`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SCOT_"))}
    return {
        **kept,
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "SCOT_WEIGHTS": str(small.folder),
    }


@pytest.fixture(scope="module")
def inputs(served: Served) -> tuple[Dataset, Dataset, Dataset]:
    """Galleries, captions and triplets, written from this environment."""
    lake = served.lake
    config = CaptionsConfig(count=12, queries_per_split=2, gallery=40, shard_rows=5)
    pictures = recipes.captions(run_here, lake, config)
    galleries, captions = pictures.galleries, pictures.captions
    assert galleries is not None
    rows = captions.read(["pair_id", "source", "image_id", "caption"]).to_pydict()
    count = len(rows["pair_id"])
    texts = {"modification": ["in red, please!"] * count, "modified_caption": [f"{c}, in red" for c in rows["caption"]]}
    draft = lake.draft(Identity("triplets", "catalogue", "generate", "f" * 32, {}))
    draft.write_part(0, {**rows, **texts, "kind": ["generated"] * count, "model": ["by hand"] * count})
    return galleries, captions, draft.commit(1, rows_in=count)


@pytest.fixture(scope="module")
def embedded(served: Served, inputs: tuple[Dataset, Dataset, Dataset]) -> Lake:
    run = served.prefect("deployment", "run", "scot/embed-lavis", "--watch")
    assert run.exit_code == 0, run.output[-3000:]
    return served.lake


@pytest.fixture
def blip2(small: Both, monkeypatch: pytest.MonkeyPatch) -> Iterator[encoders.Encoder]:
    """The transformers encoder of the same weights."""
    monkeypatch.setenv("SCOT_WEIGHTS", str(small.folder))
    settings.cache_clear()
    yield encoders.load("blip2", device="cpu")
    settings.cache_clear()


def test_it_ran_in_the_other_environment_and_lost_no_row(embedded: Lake) -> None:
    datasets = embedded.table("embeddings").datasets()
    assert {d.stage for d in datasets} == {"embed-images", "embed-gallery", "embed-texts"}
    for dataset in datasets:
        assert dataset.manifest.versions["transformers"] == "4.26.1"
        assert dataset.config["spec"]["name"] == "lavis-blip2"
        assert dataset.manifest.rows.given == dataset.rows > 0


def test_its_vectors_are_those_of_blip2_here(
    embedded: Lake, inputs: tuple[Dataset, Dataset, Dataset], blip2: encoders.Encoder
) -> None:
    galleries, captions, triplets = inputs
    for stage, given in (("embed-images", captions), ("embed-gallery", galleries)):
        row_of, vectors = vectors_by_id([embedded.table("embeddings").latest(stage=stage)])
        rows = given.read(["image_id", "image"]).to_pylist()
        ours = blip2.embed_images([stored_picture(row) for row in rows])
        np.testing.assert_allclose(vectors[[row_of[row["image_id"]] for row in rows]], ours, atol=1e-5, rtol=0)
    texts = embedded.table("embeddings").latest(stage="embed-texts").read(["text", "vector"]).to_pydict()
    assert set(texts["text"]) >= set(triplets.read(["caption"])["caption"].to_pylist())
    np.testing.assert_allclose(np.array(texts["vector"]), blip2.embed_texts(texts["text"]), atol=1e-5, rtol=0)


def test_the_same_again_is_cached(served: Served, embedded: Lake) -> None:
    before = {d.name for d in embedded.datasets()}
    run = served.prefect("deployment", "run", "scot/embed-lavis", "--watch")
    assert run.exit_code == 0, run.output[-3000:]
    newest = json.loads(served.prefect("flow-run", "ls", "--limit", "1", "-o", "json").stdout)[0]
    assert "Cached" in json.dumps(newest)
    assert {d.name for d in embedded.datasets()} == before
