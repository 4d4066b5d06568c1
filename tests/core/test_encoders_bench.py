"""The speed script's own code, on a tiny model: it runs, and counts the FLOP that are published."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

SCRIPT = Path(__file__).parents[2] / "bench" / "encoders.py"


@pytest.fixture(scope="module")
def bench() -> object:
    spec = importlib.util.spec_from_file_location("bench_encoders", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_bound_counts_what_is_computed(bench: object) -> None:
    size = bench.reduced()  # type: ignore[attr-defined]
    encoder = bench.build(size, "float32", "cpu")  # type: ignore[attr-defined]
    model, config = encoder.model.eval(), size.config
    for part in (model.vision_model, model.qformer):
        part.set_attn_implementation("eager")  # the counter does not see into fused attention on a CPU
    pixels = torch.zeros(2, 3, encoder.spec.image_size, encoder.spec.image_size)
    with torch.inference_mode(), FlopCounterMode(display=False) as tower:
        seen = model.vision_model(pixel_values=pixels).last_hidden_state
    with torch.inference_mode(), FlopCounterMode(display=False) as qformer:
        model.vision_projection(
            model.qformer(query_embeds=model.query_tokens.expand(2, -1, -1), encoder_hidden_states=seen)[0]
        )
    assert tower.get_total_flops() == 2 * bench.tower_flop(config)  # type: ignore[attr-defined]
    assert qformer.get_total_flops() == 2 * bench.qformer_flop(config)  # type: ignore[attr-defined]
    published = bench.published().config  # type: ignore[attr-defined]
    assert round(bench.tower_flop(published) / 1e9) == 521  # type: ignore[attr-defined]
    assert round(bench.qformer_flop(published) / 1e9) == 13  # type: ignore[attr-defined]


def test_the_script_runs_where_there_is_no_gpu() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--reduced", "--json"], capture_output=True, text=True, check=True
    )
    result = json.loads(done.stdout)
    assert result["encoder"] > 0 and result["path"] > 0 and result["bound"] > 0


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_published_shape_runs_on_a_gpu() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--json"], capture_output=True, text=True, check=True)
    print(done.stdout)
    assert json.loads(done.stdout)["share_of_bound"] > 0
