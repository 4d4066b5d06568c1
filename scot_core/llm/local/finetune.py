"""LoRA on a 4-bit causal language model (§4.2): the paper's way to a writer of its own.

The loss is on the completion alone. The batch of a step is a function of seed and step, and dropout is
off, so a run resumed from its last checkpoint ends with the same bytes as one that was never stopped (on the
same machine; a batch that had to be split for want of memory, which is logged, may move the last bits).
"""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import PreTrainedTokenizerBase

from scot_core import checkpoint
from scot_core.config import FinetuneConfig
from scot_core.errors import DataError, ModelError
from scot_core.lake.fingerprint import digest
from scot_core.llm.local.falcon_tuning import FalconTuning, can_be_tuned
from scot_core.llm.local.four_bits import add_before_multiplying
from scot_core.llm.local.generator import fits_dense, load_base
from scot_core.memory import halved, release

# Every linear layer of a Falcon block; a model without these names gets all its linear layers adapted.
FALCON_LAYERS: Final = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")
_WARM_UP: Final = 20  # steps
_LENGTH_WINDOW: Final = 8  # batches sorted by length together
_CHECKPOINTED_SIZE: Final = 1_000_000_000  # parameters from which activations are recomputed to save memory
_IGNORED: Final = -100


@dataclass(frozen=True, slots=True)
class _Example:
    prompt: list[int]
    completion: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


Summed = Callable[[Sequence[_Example]], torch.Tensor]
"""The sum of -log p over the tokens of some examples' completions."""


def _tokenised(examples: Sequence[tuple[str, str]], tokenizer: PreTrainedTokenizerBase) -> list[_Example]:
    if not examples:
        raise DataError("finetune: there are no examples; the seed stage kept none")
    prompts = tokenizer([prompt for prompt, _ in examples]).input_ids
    # The boundary of prompt and completion is one of tokens too: what generation sees is what was trained.
    completions = tokenizer([completion for _, completion in examples], add_special_tokens=False).input_ids
    end = int(tokenizer.eos_token_id)
    return [_Example(list(p), [*c, end]) for p, c in zip(prompts, completions, strict=True)]


class _Schedule:
    """Which examples make up each batch: a function of seed and position alone.

    An epoch is shuffled, sorted by length in windows of a few batches, and its batches are shuffled again.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths = lengths
        self._size = min(batch_size, len(lengths))
        self._seed = seed
        self._epoch = -1
        self._batches: list[list[int]] = []

    def batch(self, position: int) -> list[int]:
        """Indices of the examples of one batch."""
        per_epoch = len(self._lengths) // self._size
        epoch, index = divmod(position, per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._shuffled(epoch)
        return self._batches[index]

    def _shuffled(self, epoch: int) -> list[list[int]]:
        rng = random.Random(f"{self._seed} {epoch}")
        order = rng.sample(range(len(self._lengths)), len(self._lengths))
        order = order[: len(order) // self._size * self._size]
        window = self._size * _LENGTH_WINDOW
        batches = []
        for start in range(0, len(order), window):
            members = sorted(order[start : start + window], key=lambda i: (self._lengths[i], i))
            batches += [members[i : i + self._size] for i in range(0, len(members), self._size)]
        rng.shuffle(batches)
        return batches


def _tensors(batch: Sequence[_Example], pad: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids, attention mask and labels, (B, L) int64 each. Masked by length: the padding may be the end token."""
    longest = max(map(len, batch))
    ids = torch.full((len(batch), longest), pad)
    mask = torch.zeros(len(batch), longest, dtype=torch.long)
    labels = torch.full((len(batch), longest), _IGNORED)
    for row, example in enumerate(batch):
        ids[row, : len(example)] = torch.tensor(example.prompt + example.completion)
        mask[row, : len(example)] = 1
        labels[row, len(example.prompt) : len(example)] = torch.tensor(example.completion)
    return ids, mask, labels


def _adapted(model: Any, config: FinetuneConfig) -> Any:
    """The model with fresh LoRA matrices, in training mode."""
    large = sum(p.numel() for p in model.parameters()) * 2 > _CHECKPOINTED_SIZE
    model = prepare_model_for_kbit_training(
        model, use_gradient_checkpointing=large, gradient_checkpointing_kwargs={"use_reentrant": False}
    )
    layers = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=0.0,
        target_modules=list(FALCON_LAYERS) if layers.issuperset(FALCON_LAYERS) else "all-linear",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = get_peft_model(model, lora)
    # The name as it was given: an adapter says nothing of the machine it was made on.
    model.peft_config["default"].base_model_name_or_path = config.base
    if next(model.parameters()).device.type == "cpu":
        add_before_multiplying(model)
    model.train()
    return model


def learning_rate(step: int, config: FinetuneConfig) -> float:
    """Linear warm-up over 20 steps, then linear to nothing."""
    return config.learning_rate * min(1.0, (step + 1) / _WARM_UP) * (1 - step / config.steps)


def _library_loss(model: Any, pad: int) -> Summed:
    """The loss of any model."""

    def summed(examples: Sequence[_Example]) -> torch.Tensor:
        ids, mask, labels = (t.to(next(model.parameters()).device) for t in _tensors(examples, pad))
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
        wanted = labels[:, 1:]
        chosen = wanted != _IGNORED
        return torch.nn.functional.cross_entropy(logits[chosen].float(), wanted[chosen], reduction="sum")

    return summed


def _summed(model: Any, pad: int) -> Summed:
    """How the loss of some examples is computed: the library's way, or the same by fewer products."""
    if not can_be_tuned(model) or not fits_dense(model, torch.device("cpu")):
        return _library_loss(model, pad)
    tuning = FalconTuning(model)
    return lambda examples: tuning.loss([(e.prompt, e.completion) for e in examples])


def _accumulate(model: Any, summed: Summed, batches: Sequence[Sequence[_Example]], rows: int) -> float:
    """The gradients of one step's batches; every completion token weighs the same. Returns the mean loss.

    At most `rows` examples go through the model together.
    """
    model.zero_grad(set_to_none=True)  # of the step before, or of a try that did not fit
    count = sum(len(e.completion) for batch in batches for e in batch)
    total = 0.0
    for batch in batches:
        for start in range(0, len(batch), rows):
            loss = summed(batch[start : start + rows]) / count
            loss.backward()
            total += loss.item()
    return total


def _step(model: Any, summed: Summed, batches: Sequence[Sequence[_Example]], rows: int) -> tuple[float, int]:
    """The gradients and mean loss of one step, and how many examples fit into the device's memory together.

    Splitting a batch leaves its sum of gradients as it is, up to rounding.

    Raises:
        ModelError: not even one example fits.
    """
    longest = max(len(example) for batch in batches for example in batch)
    return halved(
        lambda together: _accumulate(model, summed, batches, len(together)),
        range(min(rows, max(map(len, batches)))),
        f"example of up to {longest} tokens",
    )


def _digest(examples: Sequence[tuple[str, str]]) -> str:
    return digest(json.dumps([list(pair) for pair in examples], ensure_ascii=False).encode())


def _save_adapter(model: Any, out: Path) -> None:
    unfinished = out / "_unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    # LoRA leaves the embeddings alone; left to find that out by itself, PEFT asks the hub
    model.save_pretrained(unfinished, save_embedding_layers=False)
    config = json.loads((unfinished / "adapter_config.json").read_text())
    for name, value in config.items():  # PEFT keeps layer names as a set, whose order changes from run to run
        if isinstance(value, list):
            config[name] = sorted(value)
    (unfinished / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True))
    # Last the file that says that there is an adapter; PEFT's own model card is left behind.
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (unfinished / name).replace(out / name)
    shutil.rmtree(unfinished)


def finetune(
    config: FinetuneConfig,
    examples: Sequence[tuple[str, str]],
    out: Path,
    *,
    device: str | None = None,
    progress: Callable[[int, float], object] = lambda step, loss: None,
) -> list[float]:
    """Train a LoRA adapter on a 4-bit base, from the last checkpoint under `out/_checkpoint` if there is one.

    Returns the mean loss of a completion token, one number for each step, those before a resume included. The adapter
    is a PEFT folder (adapter_model.safetensors, adapter_config.json) in `out`.

    Args:
        config: the base, as `local.load_base` takes it, and how to train.
        examples: (prompt, completion) texts; the end-of-sequence token is added to the completion.
        out: the adapter's folder.
        device: as `local.load_base`.
        progress: called with (steps done, loss) after each step, and at once for each step of a checkpoint.

    Raises:
        ModelError: the base cannot be loaded or is not 4-bit; the loss is no longer a number; the device's
            memory does not hold one example.
        ConfigError: a hub id without a commit.
        DataError: no examples.
    """
    out.mkdir(parents=True, exist_ok=True)
    loaded, tokenizer = load_base(config.base, revision=config.revision, device=device)
    tokens = _tokenised(examples, tokenizer)
    model = _adapted(loaded, config)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=config.learning_rate, weight_decay=0.0, fused=True)
    saved = out / "_checkpoint" / "checkpoint.safetensors"
    note = {"examples": _digest(examples), **config.identity()}
    start, losses = checkpoint.restore(saved, parameters, optimizer, note=note)
    for done, loss in enumerate(losses, 1):
        progress(done, loss)
    schedule = _Schedule([len(e) for e in tokens], config.batch_size, config.seed)
    rows, summed = config.batch_size, _summed(model, int(tokenizer.pad_token_id))
    for step in range(start, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        parts = range(step * config.gradient_accumulation, (step + 1) * config.gradient_accumulation)
        batches = [[tokens[i] for i in schedule.batch(part)] for part in parts]
        loss, rows = _step(model, summed, batches, rows)
        if not math.isfinite(loss):
            raise ModelError(
                f"the loss is {loss} at step {step + 1}: the last checkpoint is kept, but the learning rate of "
                f"{config.learning_rate:g} is too high for {config.base}; lower finetune.learning_rate"
            )
        losses.append(loss)
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        progress(step + 1, loss)
        if (step + 1) % config.checkpoint_every == 0:
            checkpoint.save(saved, parameters, optimizer, step + 1, note=note, record=losses)
    _save_adapter(model, out)
    shutil.rmtree(saved.parent, ignore_errors=True)
    release(model)
    return losses
