"""A training step of the Combiner against CLIP4Cir's loop, on a CPU and, where there is one, on a GPU.

CLIP4Cir's loop draws a shuffled batch, runs the Combiner with a dropout module at each place, and steps AdamW as torch
has it by default; both ways compute the same loss on vectors that are made before. On a CPU the ratio stands beside the
share of the peak that a large product of float32 matrices reaches there. On a GPU the same step is taken with TF32,
under bfloat16 autocast, and replayed as a CUDA graph; without one, it says so.

    python bench/training.py [--large]        --large: projection 2560, hidden 5120, batch 1024, as in the paper
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scot_core.combiner import Combiner
from scot_core.losses import scot_loss

REPEATS = 12
Step = Callable[[], object]


class Peer(nn.Module):
    """CLIP4Cir's Combiner, as a module for each dropout and one scalar branch as a `Sequential`."""

    def __init__(self, dim: int, projection: int, hidden: int) -> None:
        super().__init__()
        self.text, self.image = nn.Linear(dim, projection), nn.Linear(dim, projection)
        self.drops = nn.ModuleList(nn.Dropout(0.5) for _ in range(3))
        self.combination, self.output = nn.Linear(2 * projection, hidden), nn.Linear(hidden, dim)
        self.scalar = nn.Sequential(
            nn.Linear(2 * projection, hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden, 1), nn.Sigmoid()
        )

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        projected_text = self.drops[0](functional.relu(self.text(text)))
        projected_image = self.drops[1](functional.relu(self.image(image)))
        raw = torch.cat((projected_text, projected_image), -1)
        combined = self.drops[2](functional.relu(self.combination(raw)))
        share = self.scalar(raw)
        return functional.normalize(self.output(combined) + share * text + (1 - share) * image, dim=-1)


def taken(
    model: nn.Module, batch: int, dim: int, device: str, *, fused: bool, cast: AbstractContextManager[Any]
) -> Step:
    """One optimizer step, on vectors that are there already."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=fused)
    image, text, target, caption = (functional.normalize(torch.randn(batch, dim, device=device)) for _ in range(4))

    def step() -> object:
        with cast:
            composed = model(image, text)
        loss = scot_loss(composed.float(), target, caption)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss

    return step


def alternating(ways: dict[str, Step], clock: Callable[[], float]) -> dict[str, float]:
    """The least time of each way, taken in turns."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(REPEATS):
        for name, way in ways.items():
            start = clock()
            way()
            best[name] = min(best[name], clock() - start)
    return best


def on_cpu(dim: int, projection: int, hidden: int, batch: int) -> None:
    torch.set_num_threads(1)
    none = nullcontext()
    ours = taken(Combiner(dim, projection, hidden), batch, dim, "cpu", fused=True, cast=none)
    theirs = taken(Peer(dim, projection, hidden), batch, dim, "cpu", fused=False, cast=none)
    left, right = torch.randn(1024, 1024), torch.randn(1024, 1024)
    best = alternating({"scot": ours, "peer": theirs, "product": lambda: left @ right}, time.process_time)
    weights = 2 * dim * projection + 2 * 2 * projection * hidden + hidden * dim + hidden
    flops = 6 * batch * weights - 4 * batch * dim * projection  # no gradient of the inputs
    peak = 2 * 1024**3 / best["product"]
    print(
        f"step {dim}, {projection}/{hidden}, batch {batch}: {best['peer'] / best['scot']:.2f} x   "
        f"{1e3 * best['scot']:.1f} ms against {1e3 * best['peer']:.1f} ms of CLIP4Cir's loop   "
        f"{flops / best['scot'] / peak:.0%} of this core's peak"
    )


@contextmanager
def tf32() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def graphed(step: Step) -> Step:
    """The step as one CUDA graph."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def on_gpu(dim: int, projection: int, hidden: int, batch: int) -> None:
    def waited(step: Step) -> Step:
        def done() -> None:
            step()
            torch.cuda.synchronize()

        return done

    bfloat16 = torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=False)
    ways: dict[str, Step] = {}
    for name, cast in (("fp32", nullcontext()), ("bf16", bfloat16)):
        model = Combiner(dim, projection, hidden).cuda()
        ways[name] = waited(taken(model, batch, dim, "cuda", fused=True, cast=cast))
        again = Combiner(dim, projection, hidden).cuda()
        ways[f"{name}, graph"] = waited(graphed(taken(again, batch, dim, "cuda", fused=True, cast=cast)))
    ways["CLIP4Cir's loop"] = waited(
        taken(Peer(dim, projection, hidden).cuda(), batch, dim, "cuda", fused=False, cast=nullcontext())
    )
    best = alternating(ways, time.perf_counter)
    with tf32():
        model = Combiner(dim, projection, hidden).cuda()
        step = waited(taken(model, batch, dim, "cuda", fused=True, cast=nullcontext()))
        best |= alternating({"tf32": step}, time.perf_counter)
    for name, seconds in best.items():
        ratio = best["CLIP4Cir's loop"] / seconds
        print(f"step on the GPU, {name}: {ratio:.2f} x   {1e3 * seconds:.2f} ms")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", action="store_true", help="the paper's sizes on the CPU, too: minutes")
    arguments = parser.parse_args()
    on_cpu(128, 512, 512, 256)
    if arguments.large:
        on_cpu(256, 2560, 5120, 1024)
    if torch.cuda.is_available():
        on_gpu(256, 2560, 5120, 1024)
    else:
        print("training: no CUDA device here; TF32, bfloat16 and CUDA graphs are not measured")
    return 0


if __name__ == "__main__":
    sys.exit(main())
