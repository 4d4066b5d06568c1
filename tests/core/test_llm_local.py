"""A tiny random Falcon with 7B's shape choices: quantised, tuned, stopped, resumed, reloaded and made to write."""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
import pytest
import torch
from bitsandbytes.nn.modules import Params4bit
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import FalconConfig, LlamaConfig, LlamaForCausalLM
from transformers.models.falcon import modeling_falcon

from scot_core.config import FinetuneConfig
from scot_core.errors import DataError, ModelError
from scot_core.llm.local import decode, finetune, four_bits
from scot_core.llm.local import generator as local
from scot_core.llm.local.weights import CATALOGUE_FALCON, SHIPPED, weights_revision
from tests.tiny_llm import EXAMPLES, build_falcon, build_tokenizer, on

SETTINGS = FinetuneConfig(rank=4, alpha=8, steps=24, batch_size=6, learning_rate=2e-2, seed=3, checkpoint_every=7)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return build_falcon(tmp_path_factory.mktemp("falcon"))


@pytest.fixture(scope="module")
def tuned(base: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """An adapter, and the losses of its training."""
    told: list[float] = []
    out = tmp_path_factory.mktemp("adapter")
    losses = finetune.finetune(on(base, SETTINGS), EXAMPLES, out, progress=lambda _, loss: told.append(loss))
    assert losses == told
    return out, losses


def files(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir() if p.is_file()}


def stop_at(step: int, config: FinetuneConfig, out: Path) -> None:
    """Tune until a step is done."""

    def stop(done: int, _: float) -> None:
        if done >= step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune.finetune(config, EXAMPLES, out, progress=stop)


# -------------------------------------------------------------------------------------------- four bits


def test_every_linear_layer_but_the_head_is_four_bit(base: str) -> None:
    model, tokenizer = local.load_base(base)
    check = four_bits.is_four_bit(model)
    assert check == four_bits.FourBitCheck(quantised=8, plain=())  # 2 layers of 4
    assert not any(p.requires_grad for p in model.parameters())
    assert not model.training
    assert tokenizer.pad_token_id is not None
    weight = model.get_parameter("transformer.h.0.mlp.dense_h_to_4h.weight")
    assert isinstance(weight, Params4bit)
    state = weight.quant_state
    assert state.quant_type == "nf4" and state.nested


def test_a_model_that_stays_unquantised_is_refused(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # What the library does on its own: Falcon's linear layers are a subclass, and are passed over.
    class FalconLinear(nn.Linear):
        pass

    class Nothing:
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(modeling_falcon, "FalconLinear", FalconLinear)
    monkeypatch.setattr(local, "_falcon_linear_as_linear", Nothing)
    with pytest.raises(ModelError, match=r"0 linear layers are quantised, 8 are not \(transformer\.h\.0"):
        local.load_base(base)


def test_a_missing_model_says_what_is_missing_and_how_to_get_it(base: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json, tokenizer\.json.*catalogue-falcon"):
        local.load_base(str(tmp_path / "nowhere"))
    (tmp_path / "config.json").write_text((Path(base) / "config.json").read_text())
    with pytest.raises(ModelError, match="cannot be loaded"):
        local.load_base(str(tmp_path))
    with pytest.raises(ModelError, match="finetune stage"):
        local.Generator.load(base, tmp_path)


def test_a_model_that_brings_code_or_pickles_is_refused(base: str, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "code")
    config = json.loads((tmp_path / "code" / "config.json").read_text())
    own = config | {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (tmp_path / "code" / "config.json").write_text(json.dumps(own))
    (tmp_path / "code" / "own.py").write_text("raise SystemExit('this was run')")
    with pytest.raises(ModelError, match="cannot be loaded"):
        local.load_base(str(tmp_path / "code"))
    shutil.copytree(base, tmp_path / "pickle")
    (tmp_path / "pickle" / "model.safetensors").rename(tmp_path / "pickle" / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"cannot be loaded.*safetensors"):
        local.load_base(str(tmp_path / "pickle"))


def test_weights_are_identified_by_their_content(base: str, tmp_path: Path) -> None:
    assert weights_revision("tiiuae/falcon-7b-instruct", "ab" * 20) == "ab" * 20
    copies = [tmp_path / name for name in ("one", "other")]
    for folder in copies:
        shutil.copytree(base, folder)
    (copies[0] / "provenance.json").write_text("{}")
    (copies[1] / "config.json").write_text((Path(base) / "config.json").read_text() + " ")
    found = [weights_revision(str(folder)) for folder in (Path(base), *copies)]
    assert found[0] == found[1] != found[2]
    with pytest.raises(ModelError, match="no language model at"):
        weights_revision("./nowhere")


def test_an_adapter_of_another_model_is_refused(base: str, tuned: Any, tmp_path: Path) -> None:
    for file in tuned[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"r": 5}))
    with pytest.raises(ModelError, match="does not fit"):
        local.Generator.load(base, tmp_path)


# --------------------------------------------------------------------------------------------- finetune


def test_finetune_lowers_the_loss_and_saves_an_adapter(base: str, tuned: Any) -> None:
    adapter, losses = tuned
    assert len(losses) == 24
    assert np.mean(losses[-5:]) < 0.85 * losses[0]
    assert set(files(adapter)) == {"adapter_model.safetensors", "adapter_config.json"}
    assert not (adapter / "_checkpoint").exists()
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == base
    assert set(config["target_modules"]) == set(finetune.FALCON_LAYERS)


def test_the_base_is_frozen(base: str, tuned: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, tokenizer = local.load_base(base)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    monkeypatch.setattr(finetune, "load_base", lambda *_, **__: (model, tokenizer))
    compared = []

    def compare(*_: object) -> None:
        after = {n.replace("base_layer.", ""): p for n, p in model.named_parameters() if "lora_" not in n}
        assert set(after) == set(before)
        compared.append(all(torch.equal(after[name], value) for name, value in before.items()))

    finetune.finetune(on(base, SETTINGS, steps=2), EXAMPLES, tmp_path, progress=compare)
    assert compared == [True, True]


def test_a_stopped_and_resumed_finetune_ends_with_the_same_bytes(base: str, tuned: Any, tmp_path: Path) -> None:
    for step in (9, 15):
        stop_at(step, on(base, SETTINGS), tmp_path)
        assert files(tmp_path) == {}
    assert finetune.finetune(on(base, SETTINGS), EXAMPLES, tmp_path) == tuned[1]
    assert files(tmp_path) == files(tuned[0])


def test_a_checkpoint_of_other_settings_is_left_aside(base: str, tuned: Any, tmp_path: Path) -> None:
    stop_at(8, on(base, SETTINGS, seed=4), tmp_path)
    assert finetune.finetune(on(base, SETTINGS), EXAMPLES, tmp_path) == tuned[1]
    assert files(tmp_path) == files(tuned[0])


def test_a_damaged_checkpoint_counts_as_none(base: str, tuned: Any, tmp_path: Path) -> None:
    stop_at(8, on(base, SETTINGS), tmp_path)
    (damaged,) = (tmp_path / "_checkpoint").iterdir()
    damaged.write_bytes(b"not a tensor")
    assert finetune.finetune(on(base, SETTINGS), EXAMPLES, tmp_path) == tuned[1]
    assert files(tmp_path) == files(tuned[0])


def test_gradient_accumulation_is_one_large_batch(base: str, tmp_path: Path) -> None:
    # Examples of one length, so that both ways see the same number of tokens in every batch.
    examples = [e for e in EXAMPLES if e[0].startswith("caption: a red")]
    whole = on(base, SETTINGS, steps=2, batch_size=8)
    halves = on(base, whole, batch_size=4, gradient_accumulation=2)
    results = [finetune.finetune(c, examples, tmp_path / str(c.batch_size)) for c in (whole, halves)]
    assert results[0] == pytest.approx(results[1], rel=1e-5)


def test_no_examples_are_refused(base: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no examples"):
        finetune.finetune(on(base, SETTINGS), [], tmp_path)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_batches_depend_on_seed_and_position_alone(count: int, batch_size: int, seed: int) -> None:
    lengths = [i * 7 % 11 for i in range(count)]
    one, other = (finetune._Schedule(lengths, batch_size, seed) for _ in range(2))
    forwards = [one.batch(i) for i in range(12)]
    backwards = [other.batch(i) for i in reversed(range(12))][::-1]
    assert forwards == backwards
    size = min(batch_size, count)
    per_epoch = count // size
    epoch = [i for batch in forwards[:per_epoch] for i in batch]
    assert len(set(epoch)) == len(epoch) == len(forwards[:per_epoch]) * size


# ---------------------------------------------------------------------------------------------- writing


@pytest.fixture(scope="module")
def generator(base: str, tuned: Any) -> local.Generator:
    return local.Generator.load(base, tuned[0])


def test_dequantised_weights_compute_what_four_bits_and_adapter_do(base: str, generator: Any, tuned: Any) -> None:
    model, tokenizer = local.load_base(base)
    four_bit = local._with_adapter(model, tuned[0])
    assert four_bits.is_four_bit(four_bit).quantised == 8
    assert four_bits.is_four_bit(generator.model).quantised == 0
    ids = tokenizer([EXAMPLES[0][0]], return_tensors="pt").input_ids
    with torch.inference_mode():
        expected, bare, found = four_bit(ids).logits, local.load_base(base)[0](ids).logits, generator.model(ids).logits
    assert torch.allclose(found, expected, atol=1e-4)
    assert not torch.allclose(found, bare, atol=1e-2)  # the adapter matters


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> Iterator[WeakSet[Any]]:
    """The matrices of every model that is loaded, as long as there are any; nobody looks for garbage meanwhile."""
    alive: WeakSet[Any] = WeakSet()
    load = local.load_base

    def loaded(*given: Any, **named: Any) -> Any:
        model, tokenizer = load(*given, **named)
        alive.update(one.untyped_storage() for one in model.parameters() if one.ndim > 1)
        return model, tokenizer

    for module in (local, finetune):
        monkeypatch.setattr(module, "load_base", loaded)
    gc.disable()
    yield alive
    gc.enable()


@pytest.mark.parametrize("room", [True, False])
def test_what_a_model_weighs_is_given_back_at_once(
    base: str, tuned: Any, weights: WeakSet[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, room: bool
) -> None:
    monkeypatch.setattr(local, "fits_dense", lambda *_: room)
    for adapter in (None, tuned[0]):
        writer = local.Generator.load(base, adapter)
        assert len(weights) == (1 if room else 9), "the embedding; the 4-bit layers are dense ones now, or still there"
        writer.generate(["a"], [0], max_new_tokens=2, batch_size=1)
        model = writer.model
        writer.close()
        assert not weights and not list(model.parameters())
    finetune.finetune(on(base, SETTINGS.model_copy(update={"steps": 2})), EXAMPLES, tmp_path)
    assert not weights


@pytest.mark.parametrize("examples", [0, 6])  # the latter are read once for all rows
def test_the_loop_writes_what_the_library_writes(generator: Any, examples: int) -> None:
    shown = "".join(prompt + completion + "\n" for prompt, completion in EXAMPLES[:examples])
    assert len(generator.tokenizer(shown).input_ids) > 64 or not examples
    prompts = [shown + EXAMPLES[i][0] for i in (6, 9, 17)]
    replies = generator.generate(prompts, [0, 0, 0], temperature=0, max_new_tokens=12, batch_size=3)
    for prompt, reply in zip(prompts, replies, strict=True):
        ids = generator.tokenizer([prompt], return_tensors="pt").input_ids
        expected = generator.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12
        )[0, ids.shape[1] :]
        assert reply.text == generator.tokenizer.decode(expected, skip_special_tokens=True)
        assert reply.prompt_tokens == ids.shape[1]


def test_same_seeds_same_text_and_other_seeds_other_text(generator: Any) -> None:
    prompts = [prompt for prompt, _ in EXAMPLES]
    seeds = list(range(2**64 - len(prompts), 2**64))
    done: list[int] = []
    one = generator.generate(prompts, seeds, batch_size=7, max_new_tokens=16, progress=done.append)
    again = generator.generate(prompts, seeds, batch_size=7, max_new_tokens=16)
    assert done == [7, 7, 7, 3]
    assert one == again
    assert generator.generate(prompts, seeds[::-1], batch_size=7, max_new_tokens=16) != one
    # A row's random numbers are its own: neighbours only move the last bits of the logits.
    alone = generator.generate(prompts[:1], seeds[:1], batch_size=1, max_new_tokens=16)
    assert alone == one[:1]
    assert {r.finish_reason for r in one} <= {"stop", "length"}
    assert all(r.completion_tokens == 16 for r in one if r.finish_reason == "length")


def test_any_other_causal_model_is_tuned_and_writes(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(tmp_path / "llama")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        bos_token_id=0,
        eos_token_id=0,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    name = str(tmp_path / "llama")
    finetune.finetune(on(name, SETTINGS, steps=2), EXAMPLES, tmp_path / "adapter")
    assert four_bits.is_four_bit(local.load_base(name)[0]).quantised == 14  # 2 layers of 7
    adapted = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["target_modules"]
    assert len({name.rpartition(".")[2] for name in adapted}) == 7 and "lm_head" not in adapted
    written = local.Generator.load(name, tmp_path / "adapter").generate(
        [prompt for prompt, _ in EXAMPLES[:3]], [1, 2, 3], max_new_tokens=5, batch_size=3
    )
    assert len(written) == 3 and all(1 <= reply.completion_tokens <= 5 for reply in written)


def test_as_many_seeds_as_prompts(generator: Any) -> None:
    assert generator.generate([], [], batch_size=4) == []
    with pytest.raises(ValueError, match="2 prompts but 1 seeds"):
        generator.generate(["a", "b"], [1], batch_size=4)


def test_sampling_follows_the_softmax() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0, -torch.inf]]).expand(20_000, 4)
    uniform = torch.from_numpy(decode.uniforms(5, 20_000))
    drawn = decode.pick(logits, uniform, 0.5)
    share = np.bincount(drawn.numpy(), minlength=4) / 20_000
    weights = np.exp(np.array([2.0, 0.0, -1.0, -np.inf]) / 0.5)
    assert share == pytest.approx(weights / weights.sum(), abs=0.01)
    assert share[3] == 0
    assert decode.pick(logits[:1], torch.tensor([1 - 1e-16], dtype=torch.float64), 1.0).item() == 2


# -------------------------------------------------------------------------------------- shipped weights


def test_the_shipped_falcon_has_the_shape_of_the_large_one() -> None:
    folder = SHIPPED[CATALOGUE_FALCON]
    config = FalconConfig.from_pretrained(folder)
    assert config.multi_query and config.parallel_attn
    assert not (config.alibi or config.new_decoder_architecture or config.bias)
    model, tokenizer = local.load_base(CATALOGUE_FALCON)
    assert four_bits.is_four_bit(model).quantised == 4 * config.num_hidden_layers
    text = "caption: a photo of a t-shirt\nedit: make it red"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    provenance = json.loads((folder / "provenance.json").read_text())
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert provenance["sha256"] == digest and {"script", "seed", "seconds", "score"} <= set(provenance)
