"""Causal language models of one's own: loading in 4 bits, and writing with them.

Any causal model works, by folder or hub id; `catalogue-falcon` is the small one shipped here. Weights are
quantised to NF4 with double quantisation while they load, and that they are is checked: a model whose
linear layers are a subclass of `nn.Linear` (Falcon's are) otherwise stays in full precision, silently.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from scot_core.errors import ModelError
from scot_core.llm import Reply
from scot_core.llm.decode import Row, decode
from scot_core.llm.weights import CATALOGUE_FALCON, SHIPPED, resolve, weights_revision

try:
    import bitsandbytes as bnb
    from bitsandbytes.nn.modules import Linear4bit
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer
    from transformers import BitsAndBytesConfig
    from transformers.models.falcon import modeling_falcon
except ImportError as error:  # pragma: no cover - part of every test environment
    raise ModelError(
        f"local language models need transformers, peft and bitsandbytes ({error}): they come with scot"
    ) from error

__all__ = [
    "CATALOGUE_FALCON",
    "SHIPPED",
    "FourBitCheck",
    "Generator",
    "dequantise",
    "is_four_bit",
    "load_base",
    "require_four_bit",
    "resolve",
    "weights_revision",
]

# Below this size (bytes in float32) a model on the CPU writes from dequantised weights, several times faster.
_DENSE_LIMIT: Final = 4 << 30


@dataclass(frozen=True, slots=True)
class FourBitCheck:
    """How many linear layers of a model are 4-bit, and the names of those that are not (the head apart)."""

    quantised: int
    plain: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Every linear layer but the head is 4-bit, and there is one at all."""
        return self.quantised > 0 and not self.plain


def is_four_bit(model: nn.Module) -> FourBitCheck:
    """Count the 4-bit linear layers of a model; its output head and LoRA matrices do not count as plain."""
    head = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    quantised, plain = 0, []
    for name, module in model.named_modules():
        if isinstance(module, Linear4bit):
            quantised += 1
        elif isinstance(module, nn.Linear) and module is not head and "lora_" not in name and "lm_head" not in name:
            plain.append(name)
    return FourBitCheck(quantised, tuple(plain))


@contextlib.contextmanager
def _falcon_linear_as_linear() -> Iterator[None]:
    # The replacement by 4-bit layers takes `nn.Linear` itself and no subclass; FalconLinear computes the same.
    original = modeling_falcon.FalconLinear
    setattr(modeling_falcon, "FalconLinear", nn.Linear)  # noqa: B010 - a class is no variable to the type checker
    try:
        yield
    finally:
        setattr(modeling_falcon, "FalconLinear", original)  # noqa: B010


def _missing(name: str, revision: str | None, error: Exception) -> ModelError:
    first = str(error).strip().split("\n", 1)[0][:200]
    if Path(name).is_dir():
        return ModelError(f"the language model in {name} cannot be loaded: {first}")
    pin = f" --revision {revision}" if revision else ""
    return ModelError(
        f"the language model {name!r} is neither here nor could it be fetched: {first}\n"
        f"Fetch it where there is a network (`hf download {name}{pin}`), or give the folder it lies in."
    )


def load_base(
    name_or_path: str, *, revision: str | None = None, device: str = "cpu"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model in NF4 with double quantisation, frozen, in evaluation mode.

    Args:
        name_or_path: `catalogue-falcon`, a folder, or a hub id.
        revision: of the hub id.
        device: computes in float32 on "cpu", in bfloat16 on "cuda".

    Raises:
        ModelError: weights or files are missing, or the model is not 4-bit after loading.
    """
    name = resolve(name_or_path)
    dtype = torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
        with _falcon_linear_as_linear():
            model = AutoModelForCausalLM.from_pretrained(
                name, revision=revision, quantization_config=quantisation, device_map={"": device}, dtype=dtype
            )
    except (OSError, ValueError) as error:
        raise _missing(name, revision, error) from error
    require_four_bit(model, name_or_path)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.eval()
    return model, tokenizer


def require_four_bit(model: nn.Module, name: str) -> None:
    """Raise ModelError unless every linear layer of the model, its head apart, is 4-bit."""
    check = is_four_bit(model)
    if not check.ok:
        raise ModelError(
            f"{name} is not a 4-bit model: {check.quantised} linear layers are quantised, "
            f"{len(check.plain)} are not "
            f"({', '.join(check.plain[:3]) or 'there is none'}); bitsandbytes does not replace layers of their class"
        )


# ---------------------------------------------------------------------------------------------- writing


def _dense(layer: Any) -> nn.Linear:
    """A 4-bit layer and its LoRA update as one float32 layer: what the two compute, said once."""
    base: Any = layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer
    weight: torch.Tensor = bnb.functional.dequantize_4bit(base.weight.data, base.weight.quant_state).float()
    if isinstance(layer, BaseTunerLayer):
        adapted: Any = layer
        for adapter in layer.active_adapters:
            weight = weight + adapted.get_delta_weight(adapter).float()
    dense = nn.Linear(weight.shape[1], weight.shape[0], bias=base.bias is not None, device="meta")
    dense.weight = nn.Parameter(weight, requires_grad=False)
    if base.bias is not None:
        dense.bias = nn.Parameter(base.bias.float(), requires_grad=False)
    return dense


def dequantise(model: nn.Module) -> None:
    """Replace every 4-bit layer, with its adapter if it has one, by the float32 layer it stands for, in place.

    The model computes the same function as before. On a CPU the 4-bit layers unpack their weights at each
    token; this does it once.
    """
    for name, module in list(model.named_modules()):
        adapted = isinstance(module, BaseTunerLayer) and isinstance(module.get_base_layer(), Linear4bit)
        inside = name.endswith("base_layer")
        if adapted or (isinstance(module, Linear4bit) and not inside):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, _dense(module))


class Generator:
    """A language model, with or without a LoRA adapter, that writes by seeded sampling."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        """Take a causal model and its tokenizer; `load` is the usual way in."""
        self.model = model
        self.tokenizer = tokenizer

    @classmethod
    def load(
        cls, base: str, adapter: Path | None = None, *, revision: str | None = None, device: str = "cpu"
    ) -> Generator:
        """Load the base in 4 bits and put the adapter (a PEFT folder) on it.

        Raises:
            ModelError: as `load_base`, or the adapter is missing or of another model.
        """
        loaded, tokenizer = load_base(base, revision=revision, device=device)
        model: nn.Module = loaded if adapter is None else _with_adapter(loaded, adapter)
        small = sum(p.numel() for p in model.parameters()) * 8 < _DENSE_LIMIT  # two 4-bit weights to the byte
        if torch.device(device).type == "cpu" and small:
            dequantise(model)
        return cls(model, tokenizer)

    def generate(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        temperature: float = 0.8,
        max_new_tokens: int = 64,
        batch_size: int,
        progress: Callable[[int], object] | None = None,
    ) -> list[Reply]:
        """Continue each prompt until the end-of-sequence token or `max_new_tokens`.

        The prompts are sorted by length and cut into batches, so that the same call gives the same bytes on
        the same machine; a row's random numbers come from its own seed alone.

        Args:
            prompts: non-empty texts.
            seeds: one per prompt, 0 <= seed < 2**64.
            temperature: of the softmax; 0 takes the likeliest token.
            max_new_tokens: bound on each reply.
            batch_size: rows decoded together.
            progress: called after each batch with its number of rows.

        Returns:
            Replies in the order of the prompts; `finish_reason` is "stop" or "length".

        Raises:
            ValueError: as many seeds as prompts are needed.
        """
        if len(seeds) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts but {len(seeds)} seeds: give one seed per prompt")
        ids = [list(self.tokenizer(p).input_ids) for p in prompts]
        order = sorted(range(len(ids)), key=lambda i: (len(ids[i]), i))
        replies: dict[int, Reply] = {}
        end = int(self.tokenizer.eos_token_id)
        for start in range(0, len(order), batch_size):
            members = order[start : start + batch_size]
            rows = [Row(ids[i], seeds[i]) for i in members]
            written = decode(self.model, rows, end=end, temperature=temperature, max_new_tokens=max_new_tokens)
            for i, tokens in zip(members, written, strict=True):
                finished = tokens[-1:] == [end]
                text = self.tokenizer.decode(tokens[:-1] if finished else tokens, skip_special_tokens=True)
                replies[i] = Reply(str(text), "stop" if finished else "length", len(ids[i]), len(tokens))
            if progress is not None:
                progress(len(members))
        return [replies[i] for i in range(len(prompts))]


def _with_adapter(model: PreTrainedModel, adapter: Path) -> nn.Module:
    if not (adapter / "adapter_config.json").is_file():
        raise ModelError(f"no adapter in {adapter}: adapter_config.json is missing; run the finetune stage first")
    try:
        wrapped = PeftModel.from_pretrained(model, str(adapter))
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().split("\n", 1)[0][:200]
        raise ModelError(f"the adapter in {adapter} does not fit the model: {first}") from error
    wrapped.eval()
    return wrapped
