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
        adapters/catalogue-finetune-c6b216077835
        benchmarks/catalogue-benchmark-catalogue-scot-49be08969181
        captions/catalogue-captions-128d9cf024a0
        combiners/catalogue-train-scot-f500e57ca809
        embeddings/catalogue-embed-gallery-c039406d7dc7
        embeddings/catalogue-embed-images-08aa294310b9
        embeddings/catalogue-embed-texts-8b73424fef9b
        galleries/catalogue-captions-128d9cf024a0
        rejects/catalogue-generate-ace5c3001899
        rejects/catalogue-seed-12ac295e241d
        replies/catalogue-generate-ba2bea43f653
        replies/catalogue-generate-try2-2806471a253b
        replies/catalogue-seed-ae23489c2141
        triplets/catalogue-generate-ace5c3001899
        triplets/catalogue-seed-12ac295e241d
    """,
    "catalogue": """
        adapters/catalogue-finetune-a07365bbf186
        benchmarks/catalogue-benchmark-catalogue-scot-44e13a64b03d
        captions/catalogue-captions-0e85b62bd4bd
        combiners/catalogue-train-scot-7c155793b6f2
        embeddings/catalogue-embed-gallery-53e7458575b6
        embeddings/catalogue-embed-images-66c2ebebf996
        embeddings/catalogue-embed-texts-24d0bd3966e4
        galleries/catalogue-captions-0e85b62bd4bd
        rejects/catalogue-generate-5837f21032cc
        rejects/catalogue-seed-f1630e151c96
        replies/catalogue-generate-0959d1063ea2
        replies/catalogue-generate-try2-9cb4bd226d6a
        replies/catalogue-seed-17ff44583041
        triplets/catalogue-generate-5837f21032cc
        triplets/catalogue-seed-f1630e151c96
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
