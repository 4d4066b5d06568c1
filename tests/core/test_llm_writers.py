"""Devices and their memory: several writers say what one says, and what does not fit is split."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file

from scot_core.config import FinetuneConfig
from scot_core.errors import ModelError
from scot_core.llm.local import devices, finetune, four_bits
from scot_core.llm.local import generator as local
from scot_core.llm.local.decode import decode
from scot_core.llm.local.falcon_tuning import FalconTuning
from scot_core.llm.local.writers import Job, Weights, Writers, _Apart
from tests.echo import Echo
from tests.tiny_llm import EXAMPLES, build_falcon, on

PROMPTS = [prompt for prompt, _ in EXAMPLES]
SETTINGS = FinetuneConfig(rank=4, alpha=8, steps=6, batch_size=8, learning_rate=2e-2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return build_falcon(tmp_path_factory.mktemp("falcon"))


@pytest.fixture(scope="module")
def adapter(base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adapter")
    finetune.finetune(on(base, SETTINGS), EXAMPLES, out)
    return out


def job(shard: int, size: int = 6) -> Job:
    rows = range(shard * size, (shard + 1) * size)
    return Job([PROMPTS[i] for i in rows], list(rows), temperature=0.8, max_new_tokens=12, batch_size=4)


def nothing(_: int) -> None: ...


# ---------------------------------------------------------------------------------------------- devices


def test_the_device_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(name="one", total_memory=8e9))
    monkeypatch.setattr(devices, "DRIVERS", ("/no/driver",))
    assert devices.devices() == ("cpu",)
    monkeypatch.setattr(devices, "DRIVERS", ("/no/driver", __file__))
    assert devices.devices() == ("cuda:0", "cuda:1") and devices.device() == "cuda:0"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.devices() == ("cpu",)


def test_two_devices_write_what_one_writes(base: str, adapter: Path) -> None:
    weights = Weights(base, adapter)
    ticks: list[int] = []
    with Writers(weights, ["cpu"]) as one:
        expected = [one.write(job(shard), ticks.append) for shard in range(4)]
    assert sum(ticks) == 24
    both = threading.Barrier(2, timeout=300)

    def meet(_: int) -> None:
        if not both.broken:
            both.wait()

    with Writers(weights, ["cpu", "cpu"]) as two, ThreadPoolExecutor(2) as pool:
        # Each of the first two waits for the other in the middle of its work: they are two processes.
        first = list(pool.map(lambda shard: two.write(job(shard), meet), range(2)))
        both.abort()
        rest = list(pool.map(lambda shard: two.write(job(shard), nothing), range(2, 4)))
        processes = [writer._process for writer in two._all if isinstance(writer, _Apart)]
    assert first + rest == expected
    assert all(process is not None and not process.is_alive() for process in processes)


def test_a_writer_that_fails_or_dies_is_named_and_replaced(base: str, tmp_path: Path) -> None:
    with Writers(Weights(base, tmp_path), ["cpu", "cpu"]) as writers, pytest.raises(ModelError, match="no adapter in"):
        writers.write(job(0), nothing)

    def kill(_: int) -> None:
        writer = writers._all[0]
        assert isinstance(writer, _Apart) and writer._process is not None
        writer._process.kill()

    def stop(_: int) -> None:
        raise RuntimeError("told to stop")

    with Writers(cast(Weights, Echo()), ["cpu", "cpu"]) as writers:
        with pytest.raises(ModelError, match=r"writes on cpu ended \(exit code -9\); run again"):
            writers.write(job(0), kill)
        with pytest.raises(RuntimeError, match="told to stop"):
            writers.write(job(0), stop)
        found = writers.write(job(0), nothing)  # nothing of what was broken off is taken for the answer
    assert [reply.text for reply in found] == PROMPTS[:6]


# ----------------------------------------------------------------------------------------------- memory


def small(function: Callable[..., Any], rows: Callable[..., int], room: int) -> Callable[..., Any]:
    """A function on a device whose memory holds so many rows."""

    def limited(*arguments: Any, **named: Any) -> Any:
        if rows(*arguments) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return function(*arguments, **named)

    return limited


def test_batches_that_do_not_fit_are_halved_and_that_is_said(
    base: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    generator = local.Generator.load(base)
    write = partial(generator.generate, PROMPTS, range(24), max_new_tokens=8)
    expected = write(batch_size=2)
    monkeypatch.setattr(local, "decode", small(decode, lambda model, rows: len(rows), 3))
    for _ in range(2):  # what one call found out is nothing to the next: a resumed run meets the same sizes
        done: list[int] = []
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            assert write(batch_size=8, progress=done.append) == expected
        assert done == [2] * 12
        assert [record.getMessage().split()[0] for record in caplog.records] == ["8", "4"]
    monkeypatch.setattr(local, "decode", small(decode, lambda model, rows: len(rows), 0))
    with pytest.raises(ModelError, match=r"does not hold one row of .* tokens"):
        write(batch_size=8)


def test_training_batches_that_do_not_fit_are_split(base: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config, loss = on(base, SETTINGS, gradient_accumulation=2), FalconTuning.loss
    whole = finetune.finetune(config, EXAMPLES, tmp_path / "whole")
    monkeypatch.setattr(FalconTuning, "loss", small(loss, lambda self, examples: len(examples), 3))
    split = finetune.finetune(config, EXAMPLES, tmp_path / "split")
    assert split == pytest.approx(whole, rel=1e-4)
    found, expected = (load_file(tmp_path / way / "adapter_model.safetensors") for way in ("split", "whole"))
    assert all(torch.allclose(found[name], expected[name], atol=1e-3) for name in expected)
    monkeypatch.setattr(FalconTuning, "loss", small(loss, lambda self, examples: len(examples), 0))
    with pytest.raises(ModelError, match=r"does not hold one example of .* tokens"):
        finetune.finetune(config, EXAMPLES, tmp_path / "none")


def test_recomputed_activations_give_the_same_adapter(
    base: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(finetune, "fits_dense", lambda *_: False)
    kept = finetune.finetune(on(base, SETTINGS), EXAMPLES, tmp_path / "kept")
    monkeypatch.setattr(finetune, "_CHECKPOINTED_SIZE", 0)  # as for a large model
    recomputed = finetune.finetune(on(base, SETTINGS), EXAMPLES, tmp_path / "recomputed")
    assert recomputed == pytest.approx(kept, rel=1e-4)


def test_a_loss_that_is_no_number_ends_the_finetune(base: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"loss is (nan|inf) at step \d+: .*lower finetune.learning_rate"):
        finetune.finetune(on(base, SETTINGS, learning_rate=1e30), EXAMPLES, tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dense_weights_compute_what_four_bits_do(base: str, adapter: Path, dtype: torch.dtype) -> None:
    model, tokenizer = local.load_base(base, device="cpu")
    four_bit = local._with_adapter(model, adapter)
    ids = tokenizer(PROMPTS[:1], return_tensors="pt").input_ids
    with torch.inference_mode():
        expected = four_bit(ids).logits
        four_bits.dequantise(four_bit, dtype)
        assert four_bits.is_four_bit(four_bit).quantised == 0
        found = four_bit.to(dtype)(ids).logits.float()
    scale = expected.abs().max()
    assert (found - expected).abs().max() / scale < {torch.float32: 1e-4, torch.bfloat16: 3e-2}[dtype]


# -------------------------------------------------------------------------------------------------- GPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_a_base_is_tuned_in_four_bits_and_writes(base: str, tmp_path: Path) -> None:
    losses = finetune.finetune(on(base, SETTINGS, steps=24), EXAMPLES, tmp_path)
    assert losses[-1] < 0.85 * losses[0]
    dense = local.Generator.load(base, tmp_path)
    assert next(dense.model.parameters()).device.type == "cuda"
    assert four_bits.is_four_bit(dense.model).quantised == 0
    model, tokenizer = local.load_base(base)
    four_bit = local.Generator(local._with_adapter(model, tmp_path, "cuda:0"), tokenizer)
    one, other = (
        g.generate(PROMPTS, range(24), temperature=0, max_new_tokens=12, batch_size=8) for g in (dense, four_bit)
    )
    assert sum(a.text == b.text for a, b in zip(one, other, strict=True)) >= 18
    again = dense.generate(PROMPTS, range(24), temperature=0, max_new_tokens=12, batch_size=8)
    assert again == one
