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
        adapters/catalogue-finetune-d9d991acd2b2
        benchmarks/catalogue-benchmark-catalogue-scot-54508143c509
        captions/catalogue-captions-38f33b86e557
        combiners/catalogue-train-scot-cfedb984b025
        embeddings/catalogue-embed-gallery-98bef03fb251
        embeddings/catalogue-embed-images-9817f3ac00b4
        embeddings/catalogue-embed-texts-71277fe69b3e
        galleries/catalogue-captions-38f33b86e557
        rejects/catalogue-generate-f4de7db9b236
        rejects/catalogue-seed-42acc734de91
        replies/catalogue-generate-952eddf21f42
        replies/catalogue-generate-try2-30b9e87c63fe
        replies/catalogue-seed-2a1ba65d0283
        triplets/catalogue-generate-f4de7db9b236
        triplets/catalogue-seed-42acc734de91
    """,
    "catalogue": """
        adapters/catalogue-finetune-fb68c6d1272f
        benchmarks/catalogue-benchmark-catalogue-scot-3a77502588a1
        captions/catalogue-captions-1cb5408d0d9e
        combiners/catalogue-train-scot-924d42695769
        embeddings/catalogue-embed-gallery-7de05edf10f4
        embeddings/catalogue-embed-images-dc49704050ea
        embeddings/catalogue-embed-texts-45ce7d2d76fb
        galleries/catalogue-captions-1cb5408d0d9e
        rejects/catalogue-generate-9a521fac5b94
        rejects/catalogue-seed-1f26aa04db1f
        replies/catalogue-generate-25259fb6aad5
        replies/catalogue-generate-try2-b50ddb1a44a9
        replies/catalogue-seed-9fdba6c38bde
        triplets/catalogue-generate-9a521fac5b94
        triplets/catalogue-seed-1f26aa04db1f
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
