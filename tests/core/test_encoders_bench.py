"""The speed script's own code, on a tiny model: it runs, and counts the FLOP that are published."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench import encoders as bench


def test_the_bound_counts_what_is_computed() -> None:
    size = bench.reduced()
    encoder = bench.build(size, "float32", "cpu")
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
    assert tower.get_total_flops() == 2 * bench.tower_flop(config)
    assert qformer.get_total_flops() == 2 * bench.qformer_flop(config)
    published = bench.published().config
    assert round(bench.tower_flop(published) / 1e9) == 521
    assert round(bench.qformer_flop(published) / 1e9) == 13


def test_the_script_runs_where_there_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["encoders.py", "--reduced", "--json"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(bench.__file__, run_name="__main__")
    assert end.value.code == 0
    result = json.loads(capsys.readouterr().out)
    assert result["encoder"] > 0 and result["path"] > 0 and result["bound"] > 0


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_published_shape_runs_on_a_gpu() -> None:
    done = subprocess.run([sys.executable, bench.__file__, "--json"], capture_output=True, text=True, check=True)
    print(done.stdout)
    assert json.loads(done.stdout)["share_of_bound"] > 0
