"""The tests of what computes, once more on the CPUs that this one can pretend to be.

Libraries choose their arithmetic by the CPU they find: torch and oneDNN by its vector units, MKL and OpenBLAS likewise,
bitsandbytes by AVX512-BF16. What other CPUs find, this file finds here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OLD = {
    "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Nehalem", "PRETENDED_BF16": "0",
}  # fmt: skip
# bitsandbytes asks whether there is AVX512-BF16 and nothing else, so what it does then is tested here as well
AVX2_AND_BF16 = {
    "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "OPENBLAS_CORETYPE": "Haswell", "PRETENDED_BF16": "1",
}  # fmt: skip

# Whole rooms, and of the slow ones what compares one way of computing with another.
TESTS = {
    "test_losses.py": (),
    "test_combiner.py": (),
    "test_metrics.py": (),
    "test_checkpoint.py": (),
    "test_llm_four_bits.py": (),
    "test_train.py": (
        "test_a_resumed_run_ends_with_the_same_bits",
        "test_it_is_a_plain_loop_over_the_loss_of_the_configuration",
    ),
    "test_retrieval.py": (
        "test_ranks_are_those_of_the_naive_full_matrix", "test_top_k_is_that_of_the_naive_full_matrix",
        "test_real_vectors_in_several_chunks_of_both_kinds", "test_the_same_vector_ties_wherever_it_stands",
        "test_results_do_not_depend_on_how_the_work_is_cut", "test_torch_in_torch_out_and_precisions",
    ),
    "test_llm_local.py": (
        "test_the_base_is_frozen", "test_a_stopped_and_resumed_finetune_ends_with_the_same_bytes",
        "test_gradient_accumulation_is_one_large_batch", "test_the_loop_writes_what_the_library_writes",
        "test_dequantised_weights_compute_what_four_bits_and_adapter_do",
        "test_any_other_causal_model_is_tuned_and_writes",
    ),
    "test_llm_writers.py": (
        "test_recomputed_activations_give_the_same_adapter", "test_dense_weights_compute_what_four_bits_do",
    ),
    "test_encoders_published.py": (
        "test_a_vector_does_not_depend_on_its_companions",
        "test_blip2_is_transformers_pair_of_projected_models", "test_only_the_vision_tower_is_in_reduced_precision",
    ),
    "test_encoders_weights.py": ("test_every_shard_of_the_weights_must_be_there",),
    "test_encoder_catalogue.py": (
        "test_an_image_vector_depends_on_the_image_alone", "test_token_embeddings_give_what_the_text_gives",
    ),
}  # fmt: skip


@pytest.mark.parametrize("machine", [OLD, AVX2_AND_BF16], ids=["old", "AVX2 and BF16"])
def test_another_cpu_passes_the_tests_of_what_computes(machine: dict[str, str]) -> None:
    chosen = [f"tests/core/{file}::{name}" for file, names in TESTS.items() for name in names]
    chosen += [f"tests/core/{file}" for file, names in TESTS.items() if not names]
    # Without a GPU, which would not be asked; on one thread, as those who run all tests have others running.
    environment = {**os.environ, **machine, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.pretended_cpu", "-p", "no:cacheprovider", *chosen],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]


def test_bitsandbytes_sets_nothing_up_for_one_kind_of_cpu_and_no_compiler() -> None:
    """With AVX512-BF16 it would ask a hub for code while it is imported, and warn where there is none."""
    code = """if True:
        import os
        import sys

        class OnSuchACPU:
            def find_spec(name, path=None, target=None):
                if name == "bitsandbytes.backends.cpu.ops":
                    sys.modules["bitsandbytes.cextension"].lib.has_avx512bf16_cpu = lambda: 1

        sys.meta_path.insert(0, OnSuchACPU)
        import scot_core.llm.local.finetune
        from bitsandbytes.cextension import lib
        from bitsandbytes.nn import Linear4bit

        assert lib.has_avx512bf16_cpu() == 1
        assert not Linear4bit(2, 2).support_avx512bf16_for_cpu
        assert "bitsandbytes.backends.default.ops" in sys.modules, "another place for what asks for a compiler"
        assert "torch._inductor.codecache" not in sys.modules and "TORCHDYNAMO_DISABLE" not in os.environ
    """
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "gemm_4bit" not in run.stderr
