"""Pretrain the small Falcon of the catalogue: `python -m scot_core.catalogue.pretrain_falcon --out DIR`.

Falcon-7B's shape choices (multi-query attention, parallel attention and MLP, rotary positions, no biases)
at 2.4 million parameters, on the text of `falcon_text`. Documents are drawn without end, never twice, and
cut into batches of one length. A run that is stopped goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, FalconConfig, FalconForCausalLM, PreTrainedTokenizerFast

from scot_core.catalogue import falcon_text
from scot_core.llm import train_state

END: Final = "<|endoftext|>"
VOCABULARY: Final = 700
SHIPPED: Final = Path(__file__).parent / "weights" / "falcon"
_TOKENIZER_DOCUMENTS: Final = 30_000
_BATCHES_PER_CHUNK: Final = 64  # sorted by length together: hardly any padding
_WARM_UP: Final = 200
_CHECKPOINT_EVERY: Final = 500


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


def _batches(tokenizer: Tokenizer, batch_size: int, seed: int, start: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    index, skip = divmod(start, _BATCHES_PER_CHUNK)
    while True:
        for batch in _chunk(tokenizer, index, batch_size, seed)[skip:]:
            length = max(map(len, batch))
            # Padding stands behind, where causal attention never looks: no mask needed.
            inputs = torch.tensor([row + [0] * (length - len(row)) for row in batch])
            labels = torch.tensor([row + [-100] * (length - len(row)) for row in batch])
            yield inputs, labels
        index, skip = index + 1, 0


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then a cosine to nothing."""
    warm = min(1.0, (step + 1) / _WARM_UP)
    return peak * warm * 0.5 * (1 + math.cos(math.pi * step / steps))


def pretrain(out: Path, *, steps: int, batch_size: int, peak: float, seed: int) -> None:
    """Train from scratch or from the last checkpoint under `out`; leaves the model and its provenance in `out`."""
    tokenizer = AutoTokenizer.from_pretrained(out)
    model = build(len(tokenizer), tokenizer.eos_token_id, seed)
    parameters = dict(model.named_parameters())
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.95), fused=True)
    note: dict[str, Any] = {"steps": steps, "batch_size": batch_size, "peak": peak, "seed": seed}
    start = train_state.load(out / "_checkpoint", parameters, optimizer, note)
    log = out / "log.jsonl"
    seconds, tokens, began = _spent(log, start)
    model.train()
    mean_loss = 0.0
    batches = _batches(tokenizer.backend_tokenizer, batch_size, seed, start)
    for step in range(start, steps):
        inputs, labels = next(batches)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        loss = model(input_ids=inputs, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        tokens += inputs.numel()
        mean_loss += loss.item() / _CHECKPOINT_EVERY
        if (step + 1) % _CHECKPOINT_EVERY == 0 or step + 1 == steps:
            train_state.save(out / "_checkpoint", step + 1, parameters, optimizer, note)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=7000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--new-tokenizer", action="store_true", help="train another one, not the shipped one")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if not (arguments.out / "tokenizer.json").exists():
        if arguments.new_tokenizer:
            train_tokenizer(arguments.out, arguments.seed)
        else:
            for name in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copyfile(SHIPPED / name, arguments.out / name)
    pretrain(
        arguments.out,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        peak=arguments.learning_rate,
        seed=arguments.seed,
    )


if __name__ == "__main__":
    main()
