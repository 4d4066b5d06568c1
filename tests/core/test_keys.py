"""The keys of the shipped profiles. A key that changes makes everybody's finished work be done again: where one must
change, the changelog says so. Keys follow from configurations, stage versions, the shipped weights and the keys of
inputs, so empty datasets give the same ones as a finished run."""

from __future__ import annotations

from pathlib import Path

import pytest

from scot_core.config import profile
from scot_core.lake import Lake
from scot_core.stages import recipes
from scot_core.stages.step import Committed, Step, Work

KEYS = {
    "smoke": """
        adapters/catalogue-finetune-565d473c06aa
        benchmarks/catalogue-benchmark-catalogue-scot-823236bf8af1
        captions/catalogue-captions-38f33b86e557
        combiners/catalogue-train-scot-f6aaf7bbab9a
        embeddings/catalogue-embed-gallery-98bef03fb251
        embeddings/catalogue-embed-images-9817f3ac00b4
        embeddings/catalogue-embed-texts-dff2e96e94a0
        galleries/catalogue-captions-38f33b86e557
        rejects/catalogue-generate-49f54227b876
        rejects/catalogue-seed-a73610c14f7e
        replies/catalogue-generate-330ca95736cb
        replies/catalogue-generate-try2-315b133b7fe0
        replies/catalogue-seed-2a1ba65d0283
        triplets/catalogue-generate-49f54227b876
        triplets/catalogue-seed-a73610c14f7e
    """,
    "catalogue": """
        adapters/catalogue-finetune-644c9d0215ce
        benchmarks/catalogue-benchmark-catalogue-scot-3524b2486e61
        captions/catalogue-captions-1cb5408d0d9e
        combiners/catalogue-train-scot-a247377a28e6
        embeddings/catalogue-embed-gallery-7de05edf10f4
        embeddings/catalogue-embed-images-dc49704050ea
        embeddings/catalogue-embed-texts-db0e577196fb
        galleries/catalogue-captions-1cb5408d0d9e
        rejects/catalogue-generate-569eaa65b799
        rejects/catalogue-seed-1954e6319c99
        replies/catalogue-generate-3004359526c1
        replies/catalogue-generate-try2-de9adc5aada1
        replies/catalogue-seed-9fdba6c38bde
        triplets/catalogue-generate-569eaa65b799
        triplets/catalogue-seed-1954e6319c99
    """,
}


def commit_nothing(step: Work) -> Committed:
    """What a runner of steps returns, with the keys of a run that has worked and no rows."""
    assert isinstance(step, Step)
    return {table: draft.commit(0, rows_in=0) for table, draft in step.drafts.items()}


@pytest.mark.parametrize("name", KEYS)
def test_no_key_of_a_profile_has_changed(name: str, tmp_path: Path) -> None:
    lake, plan, run = Lake(tmp_path), profile(name), commit_nothing
    pictures = recipes.captions(run, lake, plan.captions)
    seeds = recipes.seed(run, lake, plan.seed, pictures.captions)
    adapters = recipes.finetune(run, lake, plan.finetune, pictures.captions, seeds)
    written = recipes.generate(run, lake, plan.generate, pictures.captions, adapters)
    vectors = recipes.embed(run, lake, plan.embed, pictures, written)
    combiners = recipes.train(run, lake, plan.train, written, vectors)
    recipes.benchmark(run, lake, plan.benchmark, combiners, written, vectors)
    assert sorted(dataset.name for dataset in lake.datasets()) == KEYS[name].split()
