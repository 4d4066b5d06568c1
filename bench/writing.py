"""How fast the small Falcon writes triplets on a CPU: this project's generator beside transformers' `generate`.

The model is tuned for some steps, so that its replies are as long as the demo's, and merged into one of plain weights
for `generate`, which samples from the same distribution in the same batches. CPU seconds, best of several, taken in
turns in one process; prompts are read and texts are made in either.

    python bench/writing.py [--rows 500] [--repeats 3]
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.falcon import captions
from bench.table import row
from scot_core.catalogue.grammar import teach
from scot_core.config import FinetuneConfig, GenerateConfig
from scot_core.llm.local.finetune import finetune
from scot_core.llm.local.generator import Generator
from scot_core.llm.local.merge import merge
from scot_core.triplets import local_completion, local_prompt

HOW = GenerateConfig()
TUNED = FinetuneConfig(steps=60, checkpoint_every=1000)
GOAL = 2.0


def cpu_seconds(work: Callable[[], int]) -> tuple[int, float]:
    """What the work returns, and user and system time of all threads."""
    before = os.times()
    done = work()
    after = os.times()
    return done, after.user - before.user + after.system - before.system


def ours(base: str, adapter: Path, prompts: Sequence[str]) -> Callable[[], int]:
    """Writes all; returns the number of tokens."""
    generator = Generator.load(base, adapter, device="cpu")

    def write() -> int:
        replies = generator.generate(
            prompts, range(len(prompts)), temperature=HOW.temperature, max_new_tokens=HOW.max_new_tokens,
            batch_size=HOW.batch_size,
        )  # fmt: skip
        return sum(reply.completion_tokens for reply in replies)

    return write


def library(folder: Path, prompts: Sequence[str]) -> Callable[[], int]:
    """The same by `generate`."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    models: Any = AutoModelForCausalLM
    model = models.from_pretrained(folder, dtype=torch.float32).eval()

    def write() -> int:
        tokens = 0
        for start in range(0, len(prompts), HOW.batch_size):
            batch = tokenizer(prompts[start : start + HOW.batch_size], return_tensors="pt", padding=True)
            batch.pop("token_type_ids", None)
            ids = model.generate(
                **batch, do_sample=True, temperature=HOW.temperature, top_k=0, max_new_tokens=HOW.max_new_tokens
            )[:, batch.input_ids.shape[1] :]
            tokenizer.batch_decode(ids, skip_special_tokens=True)
            # one end in every row, but for those that are as long as may be
            tokens += int(((ids != tokenizer.eos_token_id).sum(dim=1) + 1).clamp(max=HOW.max_new_tokens).sum())
        return tokens

    return write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    texts = captions(TUNED.batch_size * TUNED.steps)
    edits = [teach(text, random.Random(number)) for number, text in enumerate(texts)]
    pairs = [(local_prompt(text), local_completion(*edit)) for text, edit in zip(texts, edits, strict=True)]
    prompts = [local_prompt(text) for text in texts[: arguments.rows]]
    with tempfile.TemporaryDirectory() as place:
        adapter = Path(place) / "adapter"
        finetune(TUNED, pairs, adapter, device="cpu")
        folder = merge(TUNED.base, adapter, Path(place) / "merged", dtype=torch.float32)
        ways = {"ours": ours(TUNED.base, adapter, prompts), "generate": library(folder, prompts)}
        rates = dict.fromkeys(ways, 0.0)
        for _ in range(arguments.repeats):
            for name, write in ways.items():
                tokens, seconds = cpu_seconds(write)
                rates[name] = max(rates[name], tokens / seconds)
                print(f"{name:9s} {tokens / seconds:8,.0f} tokens a CPU second, {tokens / len(prompts):.1f} a reply")
    row("writing, the small Falcon, batch 250", "transformers' generate", rates["ours"] / rates["generate"], GOAL)


if __name__ == "__main__":
    main()
