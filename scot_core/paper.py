"""Every number of the papers that Scot uses or shows, each with its place.

SCOT: Jawade et al., "SCOT: Self-Supervised Contrastive Pretraining For Zero-Shot Compositional Retrieval",
arXiv 2501.08347. Places (§, eq., Table) are that paper's unless another work is named. Reported values are copied
as printed, in percent; where a printed row contradicts itself or the text, the row says so in `remark` and nothing
is repaired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# ---- §4.1, training data: image-text pairs as printed (189K, 45K, 58K, "totaling 290K"; they add up to 292K) ----
TRAINING_PAIRS: Final = {"coco": 189_000, "flickr30k": 45_000, "abo": 58_000}
TRAINING_PAIRS_TOTAL: Final = 290_000

# ---- §4.2, textual triplets ----
SEED_TRIPLETS: Final = 4_000
SEED_MODEL: Final = "GPT-4"
TRIPLETS: Final = 290_000
TRIPLET_MODEL: Final = "Falcon-7B, instruction-tuned, 4-bit, LoRA"

# ---- §4.2, training; the Combiner's sizes are those of CLIP4Cir ("the same hyperparameters as the original work"),
# whose released code has projection 4 x 640, hidden 8 x 640 and dropout 0.5 ----
OPTIMIZER: Final = "AdamW"
BATCH_SIZE: Final = 1024
LEARNING_RATE: Final = 1e-4
ALPHA_POS: Final = 10.0
ALPHA_NEG: Final = 0.1
MARGIN: Final = 0.2
PROJECTION_DIM: Final = 2560
HIDDEN_DIM: Final = 5120
DROPOUT: Final = 0.5
ENCODER: Final = "BLIP-2 (EVA-CLIP ViT-G/14, LAVIS), frozen"

EQUATIONS: Final = {
    "scot_core.losses.scot_loss": "eqs 4, 6, 7, 8, 9",
    "scot_core.losses.scot_loss_without_margin": "eqs 4, 5, 8 without 6, 9",
    "scot_core.losses.scot_loss_without_captions": "eqs 4, 6, 7, 9",
    "scot_core.losses.infonce_loss": "eq. 1, image-to-text part, composed to text",
    "scot_core.combiner.Combiner": "f_c of §3.2",
}

# ---- Benchmarks: queries and gallery images of the published files (FashionIQ, CIRR and CIRCO repositories) ----
FASHIONIQ_VAL: Final = {"dress": (2017, 3817), "shirt": (2038, 6346), "toptee": (1961, 5373)}
CIRR_SIZES: Final = {"val": (4181, 2297), "test1": (4148, 2315)}
CIRCO_QUERIES: Final = {"val": 220, "test": 800}
CIRCO_GALLERY: Final = 123_403

# ---- §4.4, item 3 and Figure 6: FashionIQ's average R@10 without and with ABO ----
FASHIONIQ_R10_WITHOUT_ABO: Final = 37.21
FASHIONIQ_R10_WITH_ABO: Final = 38.45

SUPERVISED: Final = "supervised"
ZERO_SHOT: Final = "zero-shot"
TEXT_ONLY: Final = "Text-Only"
OURS: Final = "SCOT"


@dataclass(frozen=True, slots=True)
class Reported:
    """One printed row.

    method: as named in the table, baselines in one spelling (Image-Only, Text-Only, Image+Text).
    values: metric name -> percent. FashionIQ's per-category metrics are "R@10/dress" and so on, its averages "R@10"
    and "R@50". Metrics the paper leaves out are absent.
    """

    source: str
    setting: str
    backbone: str
    method: str
    values: dict[str, float]
    remark: str = ""


_FASHIONIQ_METRICS: Final = tuple(
    f"R@{k}{category}" for category in ("", "/dress", "/shirt", "/toptee") for k in (10, 50)
)
_CIRR_METRICS: Final = ("R@1", "R@5", "R@10", "R@50", "Rs@1", "Rs@2", "Rs@3")
