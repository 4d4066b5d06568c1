"""Pretrain the small Falcon of the catalogue: `python -m pretraining.falcon --out DIR`.

Falcon-7B's shape choices (multi-query attention, parallel attention and MLP, rotary positions, no biases)
at 2.4 million parameters, on the text of `falcon_text`. Documents are drawn without end, never twice, and
cut into batches of one length. A run that is stopped goes on from its last checkpoint. On a machine with
other work set OMP_NUM_THREADS=1: two threads that wait for each other at every operation took three times
as long as one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, FalconConfig, FalconForCausalLM, PreTrainedTokenizerFast

from pretraining import falcon_text
from scot_core import checkpoint
from scot_core.catalogue import grammar, language, world
from scot_core.config import FinetuneConfig
from scot_core.errors import DataError
from scot_core.llm.local.finetune import finetune
from scot_core.llm.local.generator import Generator
from scot_core.llm.local.weights import CATALOGUE_FALCON, SHIPPED
from scot_core.triplets import Parsed, local_completion, local_prompt, parse

SCRIPT: Final = "python -m pretraining.falcon"
END: Final = "<|endoftext|>"
VOCABULARY: Final = 700
_TOKENIZER_DOCUMENTS: Final = 30_000
_BATCHES_PER_CHUNK: Final = 128  # sorted by length together: hardly any padding
_WARM_UP: Final = 200  # steps
_CHECKPOINT_EVERY: Final = 250


def train_tokenizer(folder: Path, seed: int) -> None:
    """Train the byte-level BPE. Do this once: ties make every training number its tokens differently."""
    rng = random.Random(f"tokenizer {seed}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((falcon_text.document(rng) for _ in range(_TOKENIZER_DOCUMENTS)), trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END)
    wrapped.save_pretrained(folder)


def build(vocabulary: int, end_id: int, seed: int) -> FalconForCausalLM:
    """The untrained model."""
    torch.manual_seed(seed)
    config = FalconConfig(
        vocab_size=vocabulary,
        hidden_size=192,
        num_hidden_layers=6,
        num_attention_heads=6,
        multi_query=True,
        parallel_attn=True,
        bias=False,
        new_decoder_architecture=False,
        alibi=False,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        max_position_embeddings=512,
        bos_token_id=end_id,
        eos_token_id=end_id,
        pad_token_id=end_id,
    )
    return FalconForCausalLM(config)


def _chunk(tokenizer: Tokenizer, index: int, batch_size: int, seed: int) -> list[list[list[int]]]:
    """Batches of token ids; a function of seed and index alone."""
    rng = random.Random(f"pretrain {seed} {index}")
    texts = [falcon_text.document(rng) + END for _ in range(_BATCHES_PER_CHUNK * batch_size)]
    ids = sorted((e.ids for e in tokenizer.encode_batch(texts)), key=len)
    batches = [ids[i : i + batch_size] for i in range(0, len(ids), batch_size)]
    rng.shuffle(batches)
    return batches


def _batches(tokenizer: Tokenizer, batch_size: int, seed: int, start: int) -> Iterator[list[list[int]]]:
    index, skip = divmod(start, _BATCHES_PER_CHUNK)
    while True:
        yield from _chunk(tokenizer, index, batch_size, seed)[skip:]
        index, skip = index + 1, 0


def _tensors(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels, (B, L) int64 each."""
    length = max(map(len, rows))
    # Padding stands behind, where causal attention never looks: no mask needed.
    inputs = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    labels = torch.tensor([row + [-100] * (length - len(row)) for row in rows])
    return inputs, labels


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then a cosine to nothing."""
    warm = min(1.0, (step + 1) / _WARM_UP)
    return peak * warm * 0.5 * (1 + math.cos(math.pi * step / steps))


def pretrain(out: Path, *, steps: int, batch_size: int, peak: float, seed: int) -> None:
    """Train from scratch or from the last checkpoint under `out`; leaves model and log in `out`."""
    tokenizer = AutoTokenizer.from_pretrained(out)
    model = build(len(tokenizer), tokenizer.eos_token_id, seed)
    parameters = dict(model.named_parameters())
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98), fused=True)
    saved = out / "_checkpoint" / "checkpoint.safetensors"
    note: dict[str, Any] = {"steps": steps, "batch_size": batch_size, "peak": peak, "seed": seed}
    start, _ = checkpoint.restore(saved, parameters, optimizer, note=note)
    log = out / "log.jsonl"
    seconds, tokens, began = _spent(log, start)
    model.train()
    mean_loss = 0.0
    batches = _batches(tokenizer.backend_tokenizer, batch_size, seed, start)
    for step in range(start, steps):
        rows = next(batches)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        inputs, labels = _tensors(rows)
        loss = model(input_ids=inputs, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        tokens += sum(map(len, rows))
        mean_loss += loss.item() / _CHECKPOINT_EVERY
        if (step + 1) % _CHECKPOINT_EVERY == 0 or step + 1 == steps:
            checkpoint.save(saved, parameters, optimizer, step + 1, note=note)
            model.save_pretrained(out)
            line = {
                "step": step + 1,
                "loss": round(mean_loss, 4),
                "tokens": tokens,
                "seconds": round(seconds + time.monotonic() - began),
            }
            with log.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
            mean_loss = 0.0


def _spent(log: Path, start: int) -> tuple[float, int, float]:
    """Seconds and tokens of the run before it was stopped, and now."""
    lines = [json.loads(line) for line in log.read_text().splitlines()] if start and log.exists() else []
    done = [line for line in lines if line["step"] <= start]
    return (done[-1]["seconds"], done[-1]["tokens"], time.monotonic()) if done else (0.0, 0, time.monotonic())


def score(folder: Path, seed: int, *, seeds: int = 4000, captions: int = 1000) -> dict[str, Any]:
    """How well the model takes up the task: LoRA on the teacher's triplets, then replies to new captions.

    Returns:
        `score`: shares of the replies in percent, `parsed`, and `right` by the grammar (before any filter); and
        `score_of`: of what.
    """
    rng = random.Random(f"score {seed}")

    def draw(split: str | None) -> str:
        return language.caption(world.sample(rng, split), language.mentioned(rng), rng.getrandbits(40))

    taught = [draw("seen") for _ in range(seeds)]
    examples = [(local_prompt(text), local_completion(*grammar.teach(text, rng))) for text in taught]
    with tempfile.TemporaryDirectory() as adapter:
        config = FinetuneConfig(base=str(folder), seed=seed)
        finetune(config, examples, Path(adapter))
        generator = Generator.load(str(folder), Path(adapter))
    asked = [draw(None) for _ in range(captions)]
    replies = generator.generate([local_prompt(text) for text in asked], range(captions), batch_size=250)
    parsed = right = 0
    for text, reply in zip(asked, replies, strict=True):
        parts = parse(reply.text, "lines")
        if reply.finish_reason == "stop" and isinstance(parts, Parsed):
            parsed += 1
            right += grammar.judge(text, parts.modification, parts.modified_caption) is grammar.Verdict.RIGHT
    return {
        "score": {"parsed": round(100 * parsed / captions, 1), "right": round(100 * right / captions, 1)},
        "score_of": f"{captions:,} new captions of any product, after LoRA on {seeds:,} triplets of the grammar: "
        f"{config.steps} steps of {config.batch_size}, learning rate {config.learning_rate:g}",
    }


def rescore(out: Path) -> dict[str, Any]:
    """Score published weights again, as `publish` does, and write that into their provenance.

    Raises DataError where the weights are others than the provenance speaks of.
    """
    file = out / "provenance.json"
    provenance: dict[str, Any] = json.loads(file.read_text())
    if provenance["sha256"] != _digest(out):
        raise DataError(f"{file} speaks of other weights than those beside it: publish them anew")
    provenance |= {"script": SCRIPT, **score(out, provenance["seed"])}
    file.write_text(json.dumps(provenance, indent=1) + "\n")
    return provenance


def _digest(out: Path) -> str:
    return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()


def publish(run: Path, out: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """Write the trained model to `out` as float16 (as good as float32 here) with its provenance.

    Args:
        run: where `pretrain` left model and log.
        out: gets config.json, model.safetensors, tokenizer files and provenance.json.
        arguments: of the run, to be recorded.
    """
    out.mkdir(parents=True, exist_ok=True)
    model = FalconForCausalLM.from_pretrained(run, dtype=torch.float32)
    model.half().save_pretrained(out)
    (out / "generation_config.json").unlink(missing_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(run / name, out / name)
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    provenance = {
        "script": SCRIPT,
        **arguments,
        "steps_done": last["step"],
        "tokens": last["tokens"],
        "loss": last["loss"],
        "seconds": last["seconds"],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "sha256": _digest(out),
        **score(out, arguments["seed"]),
    }
    (out / "provenance.json").write_text(json.dumps(provenance, indent=1) + "\n")
    return provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--new-tokenizer", action="store_true", help="train another one, not the shipped one")
    parser.add_argument("--rescore", action="store_true", help="train nothing: score the weights in --out again")
    options = parser.parse_args()
    if options.rescore:
        print(json.dumps(rescore(options.out), indent=1))
        return
    run = options.out / "run"
    run.mkdir(parents=True, exist_ok=True)
    if not (run / "tokenizer.json").exists():
        if options.new_tokenizer:
            train_tokenizer(run, options.seed)
        else:
            for name in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copyfile(SHIPPED[CATALOGUE_FALCON] / name, run / name)
    pretrain(run, steps=options.steps, batch_size=options.batch_size, peak=options.learning_rate, seed=options.seed)
    arguments = {n: getattr(options, n) for n in ("seed", "steps", "batch_size", "learning_rate")}
    print(json.dumps(publish(run, options.out, arguments), indent=1))


if __name__ == "__main__":
    main()
