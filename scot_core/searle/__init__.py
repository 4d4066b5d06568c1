"""SEARLE (arXiv 2303.15247): composed retrieval without triplets, by turning an image into a word.

`invert` finds a pseudo-token for each of many images without labels, `distill` teaches `Phi` to give them at once, and
`compose` puts that of a reference image into a sentence with the modification. `train_pic2word` and `train_lincir`
teach the same φ from images alone and from captions alone.
"""

from scot_core.searle.concepts import concept_vectors, nearest_concepts, vocabulary
from scot_core.searle.distil import PhiConfig, distill
from scot_core.searle.lincir import LincirConfig, train_lincir
from scot_core.searle.objectives import distillation_loss
from scot_core.searle.oti import Inverted, OtiConfig, PhraseFeatures, invert, invert_all
from scot_core.searle.phi import Phi
from scot_core.searle.pic2word import train_pic2word
from scot_core.searle.queries import compose, compose_both_orders
from scot_core.searle.sentences import (
    TEMPLATES,
    Phrase,
    Sentence,
    clean_phrase,
    phrase_prompt,
    phrases_of,
    query_sentence,
)
from scot_core.searle.towers import CatalogueTower, ClipTower, PseudoTokenTower, text_features, tower_of
from scot_core.searle.training import Distilled, Schedule

__all__ = [
    "TEMPLATES",
    "CatalogueTower",
    "ClipTower",
    "Distilled",
    "Inverted",
    "LincirConfig",
    "OtiConfig",
    "Phi",
    "PhiConfig",
    "Phrase",
    "PhraseFeatures",
    "PseudoTokenTower",
    "Schedule",
    "Sentence",
    "clean_phrase",
    "compose",
    "compose_both_orders",
    "concept_vectors",
    "distill",
    "distillation_loss",
    "invert",
    "invert_all",
    "nearest_concepts",
    "phrase_prompt",
    "phrases_of",
    "query_sentence",
    "text_features",
    "tower_of",
    "train_lincir",
    "train_pic2word",
    "vocabulary",
]
