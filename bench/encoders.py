"""BLIP-2 (ViT-g, 224 px) as Scot runs it, with random weights, against what its arithmetic allows.

An image costs 521 GFLOP in ViT-g and 13 in the Q-Former. The bound is those FLOP at the rate of one large matrix
product on the same device, measured here: the tower's in the precision asked for, the Q-Former's in float32. Measured
are the vision tower alone, the encoder from uint8 pixels, and the whole path from JPEG files of COCO's size through the
decoding threads; the last line says what limits it.

    python bench/encoders.py [--precision bfloat16] [--json]
    python bench/encoders.py --reduced      the same code on a tiny model, on any machine: that it runs, no more

Needs a CUDA device; on a machine without one it says so and ends well.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import Blip2Config, Blip2ForImageTextRetrieval, Blip2QFormerConfig, Blip2VisionConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.table import not_measured, row
from scot_core.encoders import Precision
from scot_core.encoders.decoding import embed_pictures
from scot_core.encoders.pretrained import PretrainedEncoder
from scot_core.encoders.rows import ROWS
from scot_core.encoders.spec import EncoderSpec

COCO_SIZE = (640, 480)


@dataclass(frozen=True)
class Size:
    """What is run: the published shape, or a tiny one."""

    config: Blip2Config
    batches: tuple[int, ...]
    matrix: int
    files: int
    seconds: float  # of each measurement, after a first run that is not counted


def published() -> Size:
    return Size(Blip2Config(image_text_hidden_size=256), (64, 128, 256, 512), 8192, 4096, 3.0)


def reduced() -> Size:
    tower = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Blip2Config(
        vision_config={**tower, "image_size": 56, "patch_size": 14},
        qformer_config={**tower, "encoder_hidden_size": 64, "vocab_size": 100},
        num_query_tokens=8,
        image_text_hidden_size=32,
    )
    return Size(config, (4, 8), 256, 16, 0.1)


def vision(config: Blip2Config) -> Blip2VisionConfig:
    assert isinstance(config.vision_config, Blip2VisionConfig)
    return config.vision_config


def sides(config: Blip2Config) -> tuple[int, int]:
    """Pixels of an image's side and of a patch's."""
    image, patch = vision(config).image_size, vision(config).patch_size
    assert isinstance(image, int) and isinstance(patch, int)
    return image, patch


def qformer(config: Blip2Config) -> Blip2QFormerConfig:
    assert isinstance(config.qformer_config, Blip2QFormerConfig)
    return config.qformer_config


def tower_flop(config: Blip2Config) -> float:
    """FLOP of the vision tower for one image: two for each multiplication with a weight or between tokens."""
    c, (image, patch) = vision(config), sides(config)
    patches = (image // patch) ** 2
    tokens, width = patches + 1, c.hidden_size
    layer = tokens * (4 * width**2 + 2 * width * c.intermediate_size) + 2 * tokens**2 * width
    return 2.0 * (c.num_hidden_layers * layer + patches * 3 * patch**2 * width)


def qformer_flop(config: Blip2Config) -> float:
    """FLOP of the Q-Former's look at one image."""
    c, queries, (image, patch) = qformer(config), config.num_query_tokens, sides(config)
    seen = (image // patch) ** 2 + 1
    width, looks = c.hidden_size, -(-c.num_hidden_layers // c.cross_attention_frequency)
    layer = queries * (4 * width**2 + 2 * width * c.intermediate_size) + 2 * queries**2 * width
    look = 2 * seen * c.encoder_hidden_size * width + queries * 2 * width**2 + 2 * queries * seen * width
    return 2.0 * (c.num_hidden_layers * layer + looks * look + queries * width * config.image_text_hidden_size)


def build(size: Size, precision: Precision, device: str) -> PretrainedEncoder:
    """The encoder with random weights, made where they are used."""
    torch.manual_seed(0)
    with torch.device(device):
        model = Blip2ForImageTextRetrieval(size.config)
    spec = EncoderSpec(
        name="blip2",
        revision="random",
        dim=size.config.image_text_hidden_size,
        image_size=sides(size.config)[0],
        preprocessing="random",
        pooling="mean",
        precision=precision,
    )
    return PretrainedEncoder(ROWS["blip2"], spec, model, None, device)


def per_second(work: Callable[[], object], units: float, device: str, seconds: float) -> float:
    """Units a second of something that does `units` of them."""
    work()
    runs, started = 0, _now(device)
    while _now(device) - started < seconds:
        work()
        runs += 1
    return runs * units / (_now(device) - started)


def _now(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def matrix_rate(size: Size, dtype: torch.dtype, device: str) -> float:
    """FLOP a second of one square matrix product."""
    a, b = (torch.randn(size.matrix, size.matrix, device=device, dtype=dtype) for _ in range(2))
    return per_second(lambda: a @ b, 2.0 * size.matrix**3, device, size.seconds)


@torch.inference_mode()
def tower_rate(encoder: PretrainedEncoder, batch: int, device: str, seconds: float) -> float:
    size = encoder.spec.image_size
    pixels = torch.randn(batch, 3, size, size, device=device)
    dtype = getattr(torch, encoder.spec.precision)

    def once() -> None:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            encoder.model.vision_model(pixel_values=pixels)

    return per_second(once, batch, device, seconds)


def encoder_rate(encoder: PretrainedEncoder, batch: int, device: str, seconds: float) -> float:
    size = encoder.spec.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    return per_second(lambda: encoder.embed_pixels(pixels), batch, device, seconds)


def photographs(count: int) -> list[bytes]:
    """JPEG files about as large as COCO's, not all alike."""
    files = []
    for seed in range(min(count, 64)):
        coarse = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(coarse).resize(COCO_SIZE, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return [files[i % len(files)] for i in range(count)]


def path_rate(encoder: PretrainedEncoder, batch: int, files: list[bytes]) -> float:
    """Images a second from JPEG files to vectors, decoded in as many threads as there are cores."""
    openers = [partial(_open, data) for data in files]
    embed_pictures(encoder, openers[:batch], batch_size=batch)
    started = time.perf_counter()
    embed_pictures(encoder, openers, batch_size=batch)
    return len(files) / (time.perf_counter() - started)


def decode_rate(encoder: PretrainedEncoder, files: list[bytes], seconds: float) -> float:
    """Images a second that one core decodes and resizes."""
    some = files[:64]
    return per_second(lambda: [encoder.pixels(_open(data)) for data in some], len(some), "cpu", seconds)


def _open(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@dataclass(frozen=True)
class Result:
    """Images a second, and what bounds them."""

    device: str
    precision: str
    gflop_tower: float
    gflop_qformer: float
    matrix_tflops: float
    matrix_float32_tflops: float
    bound: float
    batch: int
    tower: float
    encoder: float
    path: float
    decode_per_core: float
    cores: int
    share_of_bound: float
    limit: str


def measure(size: Size, precision: Precision, device: str) -> Result:
    encoder = build(size, precision, device)
    tower, qformer = tower_flop(size.config), qformer_flop(size.config)
    rate = matrix_rate(size, getattr(torch, precision), device)
    exact_rate = matrix_rate(size, torch.float32, device)
    bound = 1 / (tower / rate + qformer / exact_rate)
    towers = {batch: tower_rate(encoder, batch, device, size.seconds) for batch in size.batches}
    batch = max(towers, key=lambda b: towers[b])
    encoded = encoder_rate(encoder, batch, device, size.seconds)
    files = photographs(size.files)
    decoded = decode_rate(encoder, files, size.seconds)
    path = path_rate(encoder, batch, files)
    cores = os.cpu_count() or 1
    limit = "decoding: more cores" if decoded * cores < encoded else "the encoder"
    return Result(
        device=torch.cuda.get_device_name() if device == "cuda" else "CPU",
        precision=precision,
        gflop_tower=tower / 1e9,
        gflop_qformer=qformer / 1e9,
        matrix_tflops=rate / 1e12,
        matrix_float32_tflops=exact_rate / 1e12,
        bound=bound,
        batch=batch,
        tower=towers[batch],
        encoder=encoded,
        path=path,
        decode_per_core=decoded,
        cores=cores,
        share_of_bound=encoded / bound,
        limit=limit,
    )


def show(result: Result) -> None:
    r = result
    print(f"{r.device}, vision tower in {r.precision}, batches of {r.batch}")
    print(f"an image: {r.gflop_tower:.4g} GFLOP in the vision tower, {r.gflop_qformer:.3g} in the Q-Former")
    print(f"matrix products: {r.matrix_tflops:.4g} TFLOP/s, float32 {r.matrix_float32_tflops:.4g} TFLOP/s")
    print(f"bound                   {r.bound:9.1f} images/s")
    print(f"vision tower alone      {r.tower:9.1f} images/s")
    print(f"encoder, from pixels    {r.encoder:9.1f} images/s   {100 * r.share_of_bound:.0f} % of the bound")
    print(f"from JPEG {COCO_SIZE[0]} x {COCO_SIZE[1]}     {r.path:9.1f} images/s")
    print(f"limited by {r.limit} (a core decodes {r.decode_per_core:.0f} images/s, there are {r.cores})")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", choices=("float32", "bfloat16", "float16"), default="bfloat16")
    parser.add_argument("--reduced", action="store_true", help="a tiny model: that the code runs, no speed")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    has_cuda = torch.cuda.is_available()
    if not has_cuda and not arguments.reduced:
        print("bench/encoders.py needs a CUDA device and found none: nothing was measured (--reduced tries the code)")
        not_measured("ViT-g from pixels", "its matrix products alone", "no CUDA device", 0.6)
        return 0
    result = measure(
        reduced() if arguments.reduced else published(), arguments.precision, "cuda" if has_cuda else "cpu"
    )
    print(json.dumps(asdict(result))) if arguments.json else show(result)
    row("ViT-g from pixels", "its matrix products alone", result.share_of_bound, 0.6, machine=result.device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
