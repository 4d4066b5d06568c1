"""Generation behind an endpoint: what a server writes is what the same model writes here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from scot_core.catalogue.teacher import serve
from scot_core.config import TEACHER, FinetuneConfig, GenerateConfig, ServerConfig, profile, with_overrides
from scot_core.errors import BudgetReached, ConfigError, EndpointError, ModelError
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.draft import files_of
from scot_core.lake.fingerprint import fingerprint
from scot_core.lake.manifest import Rows
from scot_core.lake.schema import pair_id
from scot_core.llm.local import finetune
from scot_core.llm.local.generator import Generator
from scot_core.llm.local.merge import merge, merge_dataset
from scot_core.stages import recipes
from scot_core.stages.generate.local import Write
from scot_core.stages.generate.remote import WriteRemotely
from scot_core.triplets import local_prompt
from tests.completions import Completions, serve_completions
from tests.running import run_here
from tests.tiny_llm import EXAMPLES, build_falcon, on

TUNING = FinetuneConfig(rank=8, alpha=16, steps=240, batch_size=12, learning_rate=2e-2, seed=3, checkpoint_every=100)
CAPTIONS = [f"a {colour} {noun}" for colour in ("red", "green", "blue") for noun in ("mug", "lamp", "vase", "cup")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return build_falcon(tmp_path_factory.mktemp("falcon"))


@pytest.fixture(scope="module")
def adapter(base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tuned")
    finetune.finetune(on(base, TUNING), EXAMPLES, out)
    return out


@pytest.fixture(scope="module")
def server(base: str, adapter: Path) -> Iterator[Completions]:
    with serve_completions(Generator.load(base, adapter)) as served:
        yield served


@pytest.fixture
def inputs(local_lake: Lake, base: str, adapter: Path) -> tuple[Dataset, Dataset]:
    """Captions and the adapter, committed."""
    count = len(CAPTIONS)
    draft = local_lake.draft(Identity("captions", "shop", "captions", fingerprint("captions", 1, {}, []), {}))
    draft.write_part(
        0,
        {
            "pair_id": [pair_id("shop", str(number), text) for number, text in enumerate(CAPTIONS)],
            "source": ["shop"] * count,
            "image_id": [str(number) for number in range(count)],
            "caption": CAPTIONS,
            "image": [{"bytes": b"png", "path": "a.png"}] * count,
        },
    )
    captions = draft.commit(1, rows_in=count)
    config = {"base": base, "revision": None}
    draft = local_lake.draft(Identity("adapters", "shop", "finetune", fingerprint("finetune", 1, config, []), config))
    rows = {"source": ["shop"], "phase": ["train"], "step": [0], "metric": ["loss"], "value": [0.0]}
    draft.write_part(0, rows, files_of(adapter, "adapter"))
    return captions, draft.commit(1, rows_in=1)


def remote(url: str, **changes: object) -> GenerateConfig:
    endpoint = ServerConfig(name="a-server", base_url=url, model="scot", attempts=3, concurrency=2)
    return GenerateConfig(endpoint=endpoint, batch_size=1, shard_rows=5, max_new_tokens=24).model_copy(update=changes)


def said(dataset: Dataset) -> list[tuple[str, ...]]:
    return [
        (row["pair_id"], row["text"], row["finish_reason"], row["seed"], row["prompt_tokens"], row["completion_tokens"])
        for row in dataset.read().to_pylist()
    ]


def test_a_server_writes_what_the_model_writes_here(
    local_lake: Lake, inputs: tuple[Dataset, Dataset], server: Completions
) -> None:
    server.bodies.clear()
    config = remote(server.url)
    there = run_here(WriteRemotely(local_lake, config, *inputs))["replies"]
    here_config = config.model_copy(update={"endpoint": ServerConfig(model="scot")})
    here = run_here(Write(local_lake, here_config, *inputs, devices=("cpu",)))["replies"]
    assert said(there) == said(here)
    assert {row["model"] for row in there.read().to_pylist()} == {row["model"] for row in here.read().to_pylist()}
    assert sorted(body["prompt"] for body in server.bodies) == sorted(map(local_prompt, CAPTIONS))
    assert {(b["temperature"], b["max_tokens"], b["top_p"]) for b in server.bodies} == {(0.8, 24, 1.0)}
    assert there.key != here.key


def test_the_adapter_is_unpacked_where_a_commit_after_a_kill_removes_it(
    local_lake: Lake, inputs: tuple[Dataset, Dataset]
) -> None:
    config = GenerateConfig(batch_size=4, shard_rows=6, max_new_tokens=8)
    step = Write(local_lake, config, *inputs, devices=("cpu",))
    work = local_lake.draft(step.outputs["replies"]).work_folder()
    with step:
        step.run(0, lambda _: None)
        assert len(list(work.glob("*/adapter/adapter_config.json"))) == 1
        step.run(1, lambda _: None)
        step.commit()
    assert not work.exists()


def test_every_caption_ends_as_triplet_or_reject_after_a_second_try(
    local_lake: Lake, inputs: tuple[Dataset, Dataset], server: Completions
) -> None:
    server.answered.clear()
    triplets = recipes.generate(run_here, local_lake, remote(server.url, temperature=0.3), *inputs)
    rejects = local_lake.table("rejects").latest()
    assert triplets.manifest.rows == Rows(given=len(CAPTIONS), out=triplets.rows, rejected=rejects.rows)
    assert triplets.rows > 0
    twice = [prompt for prompt, times in server.answered.items() if times == 2]
    second = local_lake.table("replies").latest(stage="generate-try2")
    assert len(twice) == second.rows and set(server.answered.values()) <= {1, 2}
    again = recipes.generate(run_here, local_lake, remote(server.url, temperature=0.3), *inputs)
    assert again.record == triplets.record and sum(server.answered.values()) == len(CAPTIONS) + second.rows


def test_a_server_that_dies_halfway_is_asked_for_the_rest_alone(
    local_lake: Lake, inputs: tuple[Dataset, Dataset], server: Completions
) -> None:
    server.answered.clear()
    step = WriteRemotely(local_lake, remote(server.url), *inputs)
    with step:
        step.run(0, lambda _: None)

        def go_down(units: int) -> None:
            server.down = server.down or bool(units)

        with pytest.raises(EndpointError, match="answered 500 3 times"):
            step.run(1, go_down)
    server.down = False
    replies = run_here(WriteRemotely(local_lake, remote(server.url), *inputs))["replies"]
    assert replies.rows == len(CAPTIONS)
    assert set(server.answered.values()) == {1}


def test_no_more_is_paid_than_max_usd_for_all_tries_and_what_was_paid_is_kept(
    local_lake: Lake, inputs: tuple[Dataset, Dataset], server: Completions
) -> None:
    """At a dollar a token of the reply, so that a request may cost 24 dollars at most."""

    endpoint = ServerConfig(name="a-server", base_url=server.url, model="scot", concurrency=2,
                            usd_per_million_prompt=0.0, usd_per_million_completion=1e6)  # fmt: skip

    def within(max_usd: float | None) -> GenerateConfig:
        return remote(server.url, temperature=0.3, max_usd=max_usd, endpoint=endpoint)

    def write(max_usd: float | None) -> Dataset:
        return recipes.generate(run_here, local_lake, within(max_usd), *inputs)

    server.answered.clear()
    server.tokens = 0
    with pytest.raises(BudgetReached, match=r"generate\.max_usd: the budget of \$60\.00 is reached"):
        write(60.0)
    first = server.answered.copy()
    assert 0 < sum(first.values()) < len(CAPTIONS) and 60 - 24 < server.tokens <= 60
    with pytest.raises(BudgetReached):
        write(60.0)
    assert server.answered == first, "nothing is asked for without money"
    paid = run_here(WriteRemotely(local_lake, within(None), *inputs))["replies"].usage.usd
    with pytest.raises(BudgetReached):  # the first try leaves a dollar for the second
        write(paid + 1)
    whole = write(None)
    replies = local_lake.table("replies").datasets()
    assert sum(dataset.usage.usd for dataset in replies) == pytest.approx(server.tokens)
    assert sum(server.answered.values()) == sum(dataset.rows for dataset in replies), "nothing is paid twice"
    assert whole.rows + whole.rejected == len(CAPTIONS)


def test_a_model_the_server_does_not_serve_is_said(
    local_lake: Lake, inputs: tuple[Dataset, Dataset], server: Completions
) -> None:
    config = remote(server.url, endpoint=ServerConfig(base_url=server.url, model="other"))
    with pytest.raises(EndpointError, match="knows no model 'other'"):
        run_here(WriteRemotely(local_lake, config, *inputs))


def test_what_is_sent_and_to_whom_makes_the_key(local_lake: Lake, inputs: tuple[Dataset, Dataset]) -> None:
    def key(**changes: object) -> str:
        return WriteRemotely(local_lake, remote("http://a/v1", **changes), *inputs).outputs["replies"].key

    first = key()
    moved = ServerConfig(name="a-server", base_url="http://b/v1", model="scot", concurrency=99)
    assert key(endpoint=moved) == key(batch_size=7) == key(attempts=5) == first
    other = [
        ServerConfig(name="b", base_url="http://a/v1", model="scot"),
        ServerConfig(base_url="http://a/v1", model="x"),
    ]
    assert len({first, *(key(endpoint=e) for e in other), key(temperature=0.1), key(seed=1)}) == 5


def test_a_teacher_writes_for_every_caption_without_seeds_or_an_adapter(local_lake: Lake) -> None:
    smoke = profile("smoke").captions.model_copy(update={"count": 30})
    captions = recipes.captions(run_here, local_lake, smoke).captions
    with serve() as url:
        asked = ["generate.writer=endpoint", f"generate.endpoint.base_url={url}", f"generate.endpoint.model={TEACHER}"]
        config = with_overrides(profile("smoke"), [*asked, "generate.endpoint.name=teacher"]).generate
        triplets = recipes.generate(run_here, local_lake, config, captions)
    rejects = local_lake.table("rejects").find(triplets.key)
    assert rejects is not None and triplets.rows + rejects.rows == captions.rows and triplets.rows >= 25
    assert set(triplets.read(["model"])["model"].to_pylist()) == {TEACHER}
    assert not local_lake.table("adapters").datasets()
    moved = config.model_copy(update={"endpoint": config.endpoint.model_copy(update={"base_url": "http://b/v1"})})
    longer = moved.model_copy(update={"max_new_tokens": 7, "batch_size": 3})
    assert recipes.generate(run_here, local_lake, longer, captions).key == triplets.key


def test_whoever_writes_without_an_adapter_must_be_named() -> None:
    with pytest.raises(ConfigError, match=r"generate\.endpoint\.base_url"):
        with_overrides(profile("smoke"), ["generate.writer=endpoint"])


def test_the_endpoint_is_set_from_the_command_line_and_says_nothing_of_the_local_path() -> None:
    plan = with_overrides(profile("smoke"), ["generate.endpoint.base_url=http://gpu:8000/v1"])
    assert plan.generate.is_remote and plan.generate.endpoint.model == "scot"
    assert "endpoint" not in profile("smoke").generate.identity()


# --------------------------------------------------------------------------------------- a folder to serve


def test_a_merged_folder_computes_what_base_and_adapter_compute(base: str, adapter: Path, tmp_path: Path) -> None:
    folder = merge(base, adapter, tmp_path / "merged", dtype=torch.float32)
    generator = Generator.load(base, adapter, device="cpu")
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([generator.tokenizer(local_prompt(CAPTIONS[0])).input_ids])
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, generator.model(ids).logits, atol=1e-5, rtol=1e-5)
    assert not hasattr(model.config, "quantization_config")
    assert (folder / "tokenizer.json").is_file()
    for taken in (folder, folder / "config.json"):
        with pytest.raises(ModelError, match="name a new folder"):
            merge(base, adapter, taken)


def test_the_adapter_of_a_lake_is_merged_in_half_precision(
    local_lake: Lake, inputs: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    folder = merge_dataset(inputs[1], tmp_path / "merged")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
