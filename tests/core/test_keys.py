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
        adapters/catalogue-finetune-239732697379
        benchmarks/catalogue-benchmark-catalogue-scot-57daabc25f56
        captions/catalogue-captions-128d9cf024a0
        combiners/catalogue-train-scot-4a2160e38e9f
        embeddings/catalogue-embed-gallery-c039406d7dc7
        embeddings/catalogue-embed-images-08aa294310b9
        embeddings/catalogue-embed-texts-21199bac87cb
        galleries/catalogue-captions-128d9cf024a0
        rejects/catalogue-generate-083eac5baa7a
        rejects/catalogue-seed-0bf132a8f4d6
        replies/catalogue-generate-cb52768ecc3f
        replies/catalogue-generate-try2-01fb16744ce9
        replies/catalogue-seed-ae23489c2141
        triplets/catalogue-generate-083eac5baa7a
        triplets/catalogue-seed-0bf132a8f4d6
    """,
    "catalogue": """
        adapters/catalogue-finetune-fddaf47737d7
        benchmarks/catalogue-benchmark-catalogue-scot-605a3340c56e
        captions/catalogue-captions-0e85b62bd4bd
        combiners/catalogue-train-scot-bd49bb0e294f
        embeddings/catalogue-embed-gallery-53e7458575b6
        embeddings/catalogue-embed-images-66c2ebebf996
        embeddings/catalogue-embed-texts-7bb7c6fa950c
        galleries/catalogue-captions-0e85b62bd4bd
        rejects/catalogue-generate-cd0759f01b67
        rejects/catalogue-seed-136d79692e8d
        replies/catalogue-generate-3db577a0d296
        replies/catalogue-generate-try2-9bac110633e2
        replies/catalogue-seed-17ff44583041
        triplets/catalogue-generate-cd0759f01b67
        triplets/catalogue-seed-136d79692e8d
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
