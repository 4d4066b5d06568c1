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
        adapters/catalogue-finetune-87214f2ac5c3
        benchmarks/catalogue-benchmark-catalogue-scot-cc2a42238674
        captions/catalogue-captions-128d9cf024a0
        combiners/catalogue-train-scot-4eec1c4dd1b0
        embeddings/catalogue-embed-gallery-c039406d7dc7
        embeddings/catalogue-embed-images-08aa294310b9
        embeddings/catalogue-embed-texts-a89e2e2bd3bf
        galleries/catalogue-captions-128d9cf024a0
        rejects/catalogue-generate-6f9366558168
        rejects/catalogue-seed-0bf132a8f4d6
        replies/catalogue-generate-122dd3b11343
        replies/catalogue-generate-try2-0688090c73fe
        replies/catalogue-seed-ae23489c2141
        triplets/catalogue-generate-6f9366558168
        triplets/catalogue-seed-0bf132a8f4d6
    """,
    "catalogue": """
        adapters/catalogue-finetune-0fa9e859f2e8
        benchmarks/catalogue-benchmark-catalogue-scot-75bcd30ec103
        captions/catalogue-captions-0e85b62bd4bd
        combiners/catalogue-train-scot-03068661ac66
        embeddings/catalogue-embed-gallery-53e7458575b6
        embeddings/catalogue-embed-images-66c2ebebf996
        embeddings/catalogue-embed-texts-c4fce388872b
        galleries/catalogue-captions-0e85b62bd4bd
        rejects/catalogue-generate-571f7d6162d8
        rejects/catalogue-seed-136d79692e8d
        replies/catalogue-generate-45fc595e5415
        replies/catalogue-generate-try2-09e85f6eceac
        replies/catalogue-seed-17ff44583041
        triplets/catalogue-generate-571f7d6162d8
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
