"""Falcon-7B's shape with random weights: how fast it writes in 4 bits and in bfloat16, and how fast it is tuned.

The weights are made, saved, and then loaded, tuned and made to write by the functions that the pipeline calls; random
ones cost the same time as real ones. Beside each time stands the least it could be on this device: every weight read
once in the form it is stored in, at the bandwidth that a large copy reaches, or all products at the rate that a large
product of bfloat16 matrices reaches, whichever takes longer. Needs a CUDA device with 40 GB and 16 GB of disk;
without one it says so. --reduced runs the same code on a small model, on any machine, and its numbers mean nothing.

    python bench/falcon.py [--reduced] [--json] [--batch 1 64 256]
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, FalconConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.table import not_measured
from scot_core.catalogue.grammar import teach
from scot_core.catalogue.language import caption, mentioned
from scot_core.catalogue.world import sample
from scot_core.config import FinetuneConfig
from scot_core.llm.local.devices import device as device_here
from scot_core.llm.local.finetune import finetune
from scot_core.llm.local.four_bits import dequantise
from scot_core.llm.local.generator import Generator, load_base
from scot_core.llm.local.weights import CATALOGUE_FALCON, SHIPPED
from scot_core.memory import let_go
from scot_core.paper import TRIPLETS
from scot_core.triplets import local_completion, local_prompt

NEW_TOKENS = 64
TUNED = FinetuneConfig(steps=8, batch_size=16, learning_rate=2e-4, checkpoint_every=1000)
WARM_UP_STEPS = 3


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a Falcon with multi-query attention and parallel blocks."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    vocab_size: int


FALCON_7B = Shape(hidden_size=4544, num_hidden_layers=32, num_attention_heads=71, vocab_size=65024)
REDUCED = Shape(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, vocab_size=4096)


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. `step_ms` is a decoding step (one token for every row) or an optimizer step."""

    what: str
    batch: int
    tokens_per_s: float
    step_ms: float
    bound_ms: float
    bound_by: str
    hours_for_the_paper: float | None = None

    def __str__(self) -> str:
        speed = f"{self.what:22s} batch {self.batch:4d}   {self.tokens_per_s:10,.0f} tokens/s"
        step = f"{self.step_ms:8.1f} ms a step, {self.bound_ms:.1f} at least ({self.bound_by})"
        hours = "" if self.hours_for_the_paper is None else f"{TRIPLETS:,} replies: {self.hours_for_the_paper:.1f} h"
        return "   ".join((speed, step, hours)).rstrip()


@dataclass(frozen=True, slots=True)
class Speed:
    """What the device reaches on the two simplest loads."""

    bytes_per_s: float
    flops: float

    @classmethod
    def of(cls, device: str, megabytes: int, side: int) -> Speed:
        block = torch.empty(megabytes << 20, dtype=torch.uint8, device=device)
        copied = seconds_of(lambda: block.clone(), device)
        a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
        multiplied = seconds_of(lambda: a @ b, device)
        return cls(2 * block.numel() / copied, 2 * side**3 / multiplied)

    def bound(self, read: float, flop: float) -> tuple[float, str]:
        """Milliseconds, and what takes them."""
        times = {"memory": 1e3 * read / self.bytes_per_s, "arithmetic": 1e3 * flop / self.flops}
        by = max(times, key=lambda name: times[name])
        return times[by], by


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def seconds_of(work: Callable[[], object], device: str, repeats: int = 5) -> float:
    """The best of a few runs, after one that warms up."""
    best = float("inf")
    for run in range(repeats + 1):
        start = time.perf_counter()
        work()
        wait(device)
        best = min(best, time.perf_counter() - start) if run else best
    return best


def make(folder: Path, shape: Shape, device: str) -> int:
    """Save a random Falcon in bfloat16 with the tokenizer of the small one; returns its number of weights."""
    torch.manual_seed(0)
    config = FalconConfig(
        **asdict(shape), multi_query=True, parallel_attn=True, bias=False, new_decoder_architecture=False, alibi=False,
        hidden_dropout=0.0, attention_dropout=0.0, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SHIPPED[CATALOGUE_FALCON] / name, folder / name)
    return sum(parameter.numel() for parameter in model.parameters())


def captions(count: int) -> list[str]:
    rng = random.Random(0)
    return [caption(sample(rng, "seen"), mentioned(rng), rng.getrandbits(30)) for _ in range(count)]


def written(
    generator: Generator, what: str, batches: Sequence[int], size: float, weights: int, speed: Speed
) -> Iterator[Row]:
    """Tokens a second at each batch size; `size` is bytes of all weights as stored."""
    for batch in batches:
        prompts = [local_prompt(text) for text in captions(batch)]
        generator.generate(prompts, range(batch), max_new_tokens=4, batch_size=batch)
        start = time.perf_counter()
        replies = generator.generate(prompts, range(batch), max_new_tokens=NEW_TOKENS, batch_size=batch)
        seconds = time.perf_counter() - start
        tokens = sum(reply.completion_tokens for reply in replies)
        steps = max(reply.completion_tokens for reply in replies)
        bound, by = speed.bound(size, 2.0 * weights * batch)
        hours = TRIPLETS * seconds / batch / 3600
        yield Row(f"writing, {what}", batch, tokens / seconds, 1e3 * seconds / steps, bound, by, hours)


def tuned(folder: Path, out: Path, device: str, weights: int, speed: Speed) -> Row:
    """An optimizer step on the seeds of one batch, the weights frozen: no gradients of them, only through them."""
    texts = captions(TUNED.batch_size * TUNED.steps)
    edits = [teach(text, random.Random(number)) for number, text in enumerate(texts)]
    pairs = [(local_prompt(text), local_completion(*edit)) for text, edit in zip(texts, edits, strict=True)]
    times: list[float] = []
    config = TUNED.model_copy(update={"base": str(folder)})
    finetune(config, pairs, out, device=device, progress=lambda *_: times.append(time.perf_counter()))
    seconds = (times[-1] - times[WARM_UP_STEPS - 1]) / (TUNED.steps - WARM_UP_STEPS)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = sum(len(tokenizer(prompt + completion).input_ids) + 1 for prompt, completion in pairs) / TUNED.steps
    passes = 3 if weights > 1e9 else 2  # forward, backward, and forward once more where activations are not kept
    bound, by = speed.bound(passes * weights / 2, passes * 2.0 * weights * tokens)
    return Row("tuning, 4 bits + LoRA", TUNED.batch_size, tokens / seconds, 1e3 * seconds, bound, by)


def memory(device: str) -> str:
    return "" if device == "cpu" else f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of the device at most"


def measure(shape: Shape, device: str, batches: Sequence[int]) -> Iterator[Row]:
    small = shape is REDUCED
    speed = Speed.of(device, *((8, 256) if small else (4096, 8192)))
    print(f"{speed.bytes_per_s / 1e9:,.0f} GB/s, {speed.flops / 1e12:,.2f} TFLOP/s in bfloat16", file=sys.stderr)
    dense = torch.float32 if device == "cpu" else torch.bfloat16
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "falcon"
        weights = make(folder, shape, device)
        let_go()
        start = time.perf_counter()
        model, tokenizer = load_base(str(folder), device=device)
        wait(device)
        print(f"{weights / 1e9:.2f} G weights loaded in {time.perf_counter() - start:.0f} s", file=sys.stderr)
        head = shape.vocab_size * shape.hidden_size
        yield from written(
            Generator(model, tokenizer), "4 bits", batches, (weights - head) / 2 + head * dense.itemsize, weights, speed
        )
        dequantise(model, dense)
        yield from written(
            Generator(model, tokenizer), str(dense)[6:], batches, weights * dense.itemsize, weights, speed
        )
        del model
        let_go()
        yield tuned(folder, Path(place) / "adapter", device, weights, speed)
        print(f"all of it done{memory(device)}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reduced", action="store_true", help="a small model, on any machine")
    parser.add_argument("--json", action="store_true", help="print one JSON object a row")
    parser.add_argument("--batch", type=int, nargs="+", help="rows written together")
    arguments = parser.parse_args()
    device = device_here()
    if device == "cpu" and not arguments.reduced:
        not_measured("writing and tuning Falcon-7B", "the device's bandwidth", "no CUDA device")
        print("falcon: no CUDA device here, nothing is measured (--reduced runs the same code on a small model)")
        return 0
    batches = arguments.batch or ([4, 16] if arguments.reduced else [1, 64, 256])
    for row in measure(REDUCED if arguments.reduced else FALCON_7B, device, batches):
        print(json.dumps(asdict(row)) if arguments.json else row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
