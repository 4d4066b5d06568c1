"""Causal language models of one's own: loading in 4 bits, and writing with them.

Any causal model works, by folder or hub id; `catalogue-falcon` is the small one shipped here. Weights are
quantised to NF4 with double quantisation while they load, and that they are is checked: a model whose
linear layers are a subclass of `nn.Linear` (Falcon's are) otherwise stays in full precision, silently.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.falcon import modeling_falcon

from scot_core.errors import ModelError
from scot_core.llm import Reply
from scot_core.llm.local import falcon
from scot_core.llm.local.decode import LibraryReading, Reading, SeededPrompt, decode
from scot_core.llm.local.devices import device as device_here
from scot_core.llm.local.four_bits import compute_alike, dequantise, require_four_bit
from scot_core.llm.local.weights import pinned, resolve
from scot_core.memory import halved, release

# A model writes from dequantised weights, several times faster, where these take no more than so many bytes on a CPU
# (float32), or this share of a GPU's memory (bfloat16): keys, values and logits need the rest.
_DENSE_BYTES: Final = 4 << 30
_DENSE_SHARE: Final = 0.6


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
    name_or_path: str, *, revision: str | None = None, device: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model in NF4 with double quantisation, frozen, without dropout, in evaluation mode.

    Args:
        name_or_path: `catalogue-falcon`, `smollm2`, a folder, or a hub id.
        revision: the commit of the hub id.
        device: computes in float32 on "cpu", whatever CPU it is (`four_bits`), in bfloat16 on "cuda:0"; None takes the
            first there is.

    Raises:
        ModelError: weights or files are missing, or the model is not 4-bit after loading.
        ConfigError: a hub id without a commit.
    """
    name = resolve(name_or_path)
    commit = None if Path(name).is_dir() else pinned(name, revision)
    device = device or device_here()
    dtype = torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    wanted = {"quantization_config": quantisation, "device_map": {"": device}, "dtype": dtype}
    try:
        model, tokenizer = _from_pretrained(name, commit, wanted)
    except (OSError, ValueError) as error:
        raise _missing(name, commit, error) from error
    require_four_bit(model, name_or_path)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    if torch.device(device).type == "cpu":
        compute_alike(model)
    model.eval()
    return model, tokenizer


def _from_pretrained(
    name: str, commit: str | None, wanted: Mapping[str, Any], *, here: bool = True
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """What is on this machine, else from the hub: a commit does not change, so that nobody need be asked about it."""
    # Never code from a hub: unless told so, the library asks at the terminal where a model brings its own.
    source: dict[str, Any] = {"revision": commit, "local_files_only": here, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **source)
        config = _without_dropout(AutoConfig.from_pretrained(name, **source))
        with _falcon_linear_as_linear():
            model = AutoModelForCausalLM.from_pretrained(name, config=config, use_safetensors=True, **source, **wanted)
    except (OSError, ValueError):
        if commit is None or not here:
            raise
    else:
        return model, tokenizer
    return _from_pretrained(name, commit, wanted, here=False)


def _without_dropout(config: Any) -> Any:
    # A step is then a function of its batch, and a resumed run ends like one that was never stopped.
    for name, value in config.to_dict().items():
        if isinstance(value, float) and "drop" in name:
            setattr(config, name, 0.0)
    return config


# ---------------------------------------------------------------------------------------------- writing


def fits_dense(model: nn.Module, device: torch.device) -> bool:
    """Whether a 4-bit model's weights may be unpacked once and for all."""
    weights = 2 * sum(p.numel() for p in model.parameters())  # two 4-bit weights to the byte
    if device.type == "cpu":
        return weights * 4 < _DENSE_BYTES
    return weights * 2 < _DENSE_SHARE * torch.cuda.get_device_properties(device).total_memory


class Generator:
    """A language model, with or without a LoRA adapter, that writes by seeded sampling."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        """Take a causal model and its tokenizer; `load` is the usual way in."""
        self.model = model
        self.tokenizer = tokenizer

    @classmethod
    def load(
        cls, base: str, adapter: Path | None = None, *, revision: str | None = None, device: str | None = None
    ) -> Generator:
        """Load the base in 4 bits and put the adapter (a PEFT folder) on it.

        Where the device has room, its 4-bit weights with the adapter are then unpacked once (`dequantise`).

        Args:
            base: as `load_base`.
            adapter: None writes with the base alone.
            revision: as `load_base`.
            device: as `load_base`.

        Raises:
            ModelError: as `load_base`, or the adapter is missing or of another model.
            ConfigError: as `load_base`.
        """
        device = device or device_here()
        loaded, tokenizer = load_base(base, revision=revision, device=device)
        model: nn.Module = loaded if adapter is None else _with_adapter(loaded, adapter, device)
        place = torch.device(device)
        if fits_dense(model, place):
            dequantise(model, torch.float32 if place.type == "cpu" else torch.bfloat16)
        return cls(model, tokenizer)

    def close(self) -> None:
        """Give the model's memory back: it writes nothing any more."""
        self.__dict__.pop("_read", None)
        release(self.model)

    @cached_property
    def _read(self) -> Callable[[int], Reading]:
        """What begins to read rows of up to so many tokens: the weights as they are when it is first asked."""
        inner = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        return falcon.Falcon(inner).reading if falcon.is_plain(inner) else lambda _: LibraryReading(self.model)

    def generate(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        temperature: float = 0.8,
        max_new_tokens: int = 64,
        batch_size: int,
        repeat_bigrams: bool = True,
        progress: Callable[[int], object] | None = None,
    ) -> list[Reply]:
        """Continue each prompt until the end-of-sequence token or `max_new_tokens`.

        The prompts are sorted by length and cut into batches, so that the same call gives the same bytes on
        the same machine; a row's random numbers come from its own seed alone. A batch that does not fit into
        the device's memory is halved, and so are those after it in this call; that is logged, since other
        batches may move the last bits of the logits and with them, seldom, a word.

        Args:
            prompts: non-empty texts.
            seeds: one per prompt, 0 <= seed < 2**64.
            temperature: of the softmax; 0 takes the likeliest token.
            max_new_tokens: bound on each reply.
            batch_size: rows decoded together.
            repeat_bigrams: False keeps two neighbouring tokens from standing in a text again.
            progress: called after each batch with its number of rows.

        Returns:
            Replies in the order of the prompts; `finish_reason` is "stop" or "length".

        Raises:
            ValueError: as many seeds as prompts are needed.
            ModelError: not even one row fits into the device's memory.
        """
        if len(seeds) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts but {len(seeds)} seeds: give one seed per prompt")
        ids = [list(self.tokenizer(p).input_ids) for p in prompts]
        order = sorted(range(len(ids)), key=lambda i: (len(ids[i]), i))
        replies: dict[int, Reply] = {}
        end = int(self.tokenizer.eos_token_id)
        device = next(self.model.parameters()).device

        def write(rows: Sequence[SeededPrompt]) -> list[list[int]]:
            longest = max(len(row.prompt) for row in rows)
            return decode(
                self._read(longest + max_new_tokens), rows, end=end, temperature=temperature,
                max_new_tokens=max_new_tokens, repeat_bigrams=repeat_bigrams, device=device,
            )  # fmt: skip

        # The size that fits is found anew in each call: what a shard says may not depend on the shards before it.
        size = batch_size
        start = 0
        while start < len(order):
            ahead = [SeededPrompt(ids[i], seeds[i]) for i in order[start : start + size]]
            tokens_each = len(ahead[-1].prompt) + max_new_tokens
            written, size = halved(write, ahead, f"row of up to {tokens_each} tokens")
            members = order[start : start + size]
            for i, tokens in zip(members, written, strict=True):
                finished = tokens[-1:] == [end]
                text = self.tokenizer.decode(tokens[:-1] if finished else tokens, skip_special_tokens=True)
                replies[i] = Reply(str(text), "stop" if finished else "length", len(ids[i]), len(tokens))
            start += len(members)
            if progress is not None:
                progress(len(members))
        return [replies[i] for i in range(len(prompts))]


def _with_adapter(model: PreTrainedModel, adapter: Path, device: str = "cpu") -> nn.Module:
    if not (adapter / "adapter_config.json").is_file():
        raise ModelError(f"no adapter in {adapter}: adapter_config.json is missing; run the finetune stage first")
    try:
        wrapped = PeftModel.from_pretrained(model, str(adapter), torch_device=device)
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().split("\n", 1)[0][:200]
        raise ModelError(f"the adapter in {adapter} does not fit the model: {first}") from error
    wrapped.eval()
    return wrapped
