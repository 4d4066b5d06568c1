"""A training step of the Combiner against CLIP4Cir's loop, on a CPU and, where there is one, on a GPU.

CLIP4Cir's loop draws a batch, runs the Combiner with a dropout module at each place, and steps AdamW as torch has it by
default; both ways draw from the same vectors on the device and compute the same loss. On a CPU the ratio stands beside
the share of the peak that torch's own product of large float32 matrices reaches there, and beside what the step's
kernels take when they are called by hand. On a GPU the same step is taken with TF32, in bfloat16, compiled, and
replayed as a CUDA graph; without one, it says so.

    python bench/training.py [--small]        --small: the demo's sizes alone, not the paper's (a minute)
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.table import not_measured, row
from bench.unrolled import unrolled
from scot_core.combiner import Combiner
from scot_core.layers import linear, zero_grad
from scot_core.losses import scot_loss
from scot_core.paper import HIDDEN_DIM, PROJECTION_DIM, TRIPLETS
from scot_core.vectors import multiplies_bfloat16

PEER, PRECISIONS = "CLIP4Cir's loop", ("float32", "bfloat16")
GOAL_PEAK, GOAL_BFLOAT16, GOAL_TRAINING, EPOCHS = 0.97, 1.9, 60.0, 10
SQUARE = 1024  # rows, columns and what is between of the product that a step is measured against
GOAL_DEMO = 1.48  # 1.4 times the step before bytes drew the masks, which took 0.94 to 0.95 of the peer's time
Step = Callable[[], object]


@dataclass(frozen=True)
class Sizes:
    """Of a step."""

    dim: int
    projection: int
    hidden: int
    batch: int

    def __str__(self) -> str:
        return f"{self.dim}, {self.projection}/{self.hidden}, batch {self.batch}"

    @property
    def flop(self) -> float:
        """Of its matrix products, without gradients of what comes in, and without the loss."""
        return 2.0 * sum(rows * inner * columns for rows, inner, columns in self._of_layers)

    @property
    def products(self) -> list[tuple[int, int, int]]:
        """Its matrix products (rows, inner, columns): of each layer, of its gradients, and those of the loss."""
        return self._of_layers + [(self.batch, self.dim, self.batch), (self.batch, self.batch, self.dim)] * 2

    @property
    def _of_layers(self) -> list[tuple[int, int, int]]:
        layers = [(self.dim, self.projection)] * 2 + [(2 * self.projection, self.hidden)] * 2
        layers += [(self.hidden, self.dim), (self.hidden, 1)]
        forward = [(self.batch, a, b) for a, b in layers]
        weights = [(b, self.batch, a) for a, b in layers]
        back = [(self.batch, b, a) for a, b in layers[2:]]
        return forward + weights + back


DEMO, PAPER = Sizes(128, 512, 512, 256), Sizes(256, PROJECTION_DIM, HIDDEN_DIM, 1024)


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


def vectors(count: int, dim: int, device: str) -> list[Tensor]:
    """Tables (count, dim) of images, modifications, modified captions and captions."""
    return [functional.normalize(torch.randn(count, dim, device=device)) for _ in range(4)]


def taken(
    model: Callable[[Tensor, Tensor], Tensor], parameters: Iterable[nn.Parameter], data: list[Tensor], batch: int,
    *, fused: bool, reduced: bool = False,
) -> Step:  # fmt: skip
    """One optimizer step on a batch that is drawn where the vectors lie."""
    device, parameters = data[0].device, list(parameters)
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=fused, capturable=device.type == "cuda")

    def step() -> object:
        rows = torch.randint(len(data[0]), (batch,), device=device)
        image, text, target, caption = (table[rows] for table in data)
        with torch.autocast(device.type, torch.bfloat16, enabled=reduced, cache_enabled=False):
            composed = model(image, text)
        loss = scot_loss(composed.float(), target, caption)
        zero_grad(parameters)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss

    return step


def alternating(ways: dict[str, Step], clock: Callable[[], float], repeats: int) -> dict[str, float]:
    """The least time of each way, taken in turns after a first time that is not counted."""
    best = dict.fromkeys(ways, float("inf"))
    for turn in range(repeats + 1):
        for name, way in ways.items():
            start = clock()
            way()
            best[name] = min(best[name], clock() - start) if turn else best[name]
    return best


def ways_of(sizes: Sizes, device: str) -> dict[str, Step]:
    """The step as Scot takes it in each precision, and the peer's."""
    data = vectors(4 * sizes.batch, sizes.dim, device)
    ways: dict[str, Step] = {}
    for name in PRECISIONS:
        model = Combiner(sizes.dim, sizes.projection, sizes.hidden).to(device)
        ways[name] = taken(model, model.parameters(), data, sizes.batch, fused=True, reduced=name == "bfloat16")
    peer = Peer(sizes.dim, sizes.projection, sizes.hidden).to(device)
    ways[PEER] = taken(peer, peer.parameters(), data, sizes.batch, fused=False)
    return ways


def bare(sizes: Sizes) -> Step:
    """What no step in float32 is without, one after the other: its products, and AdamW over its weights."""
    factors = [(torch.randn(rows, inner), torch.randn(columns, inner)) for rows, inner, columns in sizes.products]
    weights = list(Combiner(sizes.dim, sizes.projection, sizes.hidden).parameters())
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    optimizer = torch.optim.AdamW(weights, fused=True)

    def step() -> None:
        for left, right in factors:
            linear(left, right)
        optimizer.step()

    return step


def squares(count: int) -> Step:
    """So many square products one after the other."""
    left, right = torch.randn(SQUARE, SQUARE), torch.randn(SQUARE, SQUARE)

    def step() -> None:
        for _ in range(count):
            left @ right

    return step


def by_hand(sizes: Sizes) -> Step:
    model = Combiner(sizes.dim, sizes.projection, sizes.hidden)
    return unrolled(model, vectors(4 * sizes.batch, sizes.dim, "cpu"), sizes.batch)


def on_cpu(sizes: Sizes, repeats: int) -> None:
    torch.set_num_threads(1)
    ways = ways_of(sizes, "cpu")
    if not multiplies_bfloat16():
        del ways["bfloat16"]
        not_measured(f"step {sizes}, bfloat16", PEER, "no instructions for it", GOAL_BFLOAT16)
    count = max(1, round(sizes.flop / (2 * SQUARE**3)))  # as long as a step: others on the machine slow both alike
    floors = {"squares": squares(count), "bare": bare(sizes), "by hand": by_hand(sizes)}
    best = alternating(ways | floors, time.process_time, repeats)
    peak = count * 2 * SQUARE**3 / best["squares"]
    for name in ways.keys() - {PEER}:
        ratio, share = best[PEER] / best[name], sizes.flop / best[name] / peak
        if name == "float32":
            goal, most = GOAL_DEMO if sizes == DEMO else 1.0, best[PEER] / best["by hand"]
            row(f"step {sizes}, {name}", PEER, ratio, goal, bound=most, by="its kernels, called by hand,")
            by, most = "its products and AdamW", sizes.flop / best["bare"] / peak
            goal_peak = GOAL_PEAK if sizes == PAPER else None
            row(f"step {sizes}, {name}", f"torch's product, {SQUARE:,} square", share, goal_peak, bound=most, by=by)
            row(f"step {sizes}, {name}", by + " alone", best["bare"] / best[name])
        else:
            row(f"step {sizes}, {name}", PEER, ratio, GOAL_BFLOAT16)
        print(
            f"step {sizes}, {name}: {ratio:.2f} x   {1e3 * best[name]:.1f} ms against {1e3 * best[PEER]:.1f} ms of "
            f"{PEER}   {share:.0%} of torch's own product in float32"
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


def on_gpu(sizes: Sizes, repeats: int) -> None:
    def waited(step: Step) -> Step:
        def done() -> None:
            step()
            torch.cuda.synchronize()

        return done

    ways = {name: waited(step) for name, step in ways_of(sizes, "cuda").items()}
    ways |= {f"{name}, graph": waited(graphed(step)) for name, step in ways_of(sizes, "cuda").items() if name != PEER}
    model, data = (
        Combiner(sizes.dim, sizes.projection, sizes.hidden).cuda(),
        vectors(4 * sizes.batch, sizes.dim, "cuda"),
    )
    compiled = torch.compile(model)
    ways["bfloat16, compiled"] = waited(
        taken(compiled, model.parameters(), data, sizes.batch, fused=True, reduced=True)
    )
    best = alternating(ways, time.perf_counter, repeats)
    with tf32():
        best |= alternating({"TF32": waited(ways_of(sizes, "cuda")["float32"])}, time.perf_counter, repeats)
    machine = torch.cuda.get_device_name()
    for name, seconds in best.items():
        print(f"step {sizes} on the GPU, {name}: {best[PEER] / seconds:.2f} x   {1e3 * seconds:.2f} ms")
        if name != PEER:
            row(f"step {sizes}, {name}", PEER, best[PEER] / seconds, machine=machine)
    steps = EPOCHS * TRIPLETS // sizes.batch
    fastest = min(seconds for name, seconds in best.items() if name in PRECISIONS)
    row(
        f"{EPOCHS} epochs of {TRIPLETS:,}",
        f"{GOAL_TRAINING:.0f} s",
        GOAL_TRAINING / (steps * fastest),
        1.0,
        machine=machine,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="not the paper's sizes")
    arguments = parser.parse_args()
    on_cpu(DEMO, 40)
    if not arguments.small:
        on_cpu(PAPER, 4)
    if torch.cuda.is_available():
        on_gpu(PAPER, 12)
    else:
        print("training: no CUDA device here; TF32, compiled steps and CUDA graphs are not measured")
        not_measured(f"step {PAPER}: TF32, bfloat16, compiled, graph", PEER, "no CUDA device")
        not_measured(f"{EPOCHS} epochs of {TRIPLETS:,}", f"{GOAL_TRAINING:.0f} s", "no CUDA device", 1.0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
