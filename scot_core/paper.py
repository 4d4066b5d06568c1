"""Every number of the papers that Scot uses or shows, each with its place.

SCOT: Jawade et al., "SCOT: Self-Supervised Contrastive Pretraining For Zero-Shot Compositional Retrieval",
arXiv 2501.08347. Places (§, eq., Table) are that paper's unless another work is named. Reported values are copied
as printed, in percent; where a printed row contradicts itself or the text, the row says so in `remark` and nothing
is repaired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

# ---- §4.1, training data: image-text pairs as printed (189K, 45K, 58K, "totaling 290K"; they add up to 292K) ----
TRAINING_PAIRS: Final = {"coco": 189_000, "flickr30k": 45_000, "abo": 58_000}

# ---- §4.2, textual triplets ----
SEED_TRIPLETS: Final = 4_000
TRIPLETS: Final = 290_000

# ---- §4.2, training; the Combiner's sizes are those of CLIP4Cir ("the same hyperparameters as the original work"),
# whose released code has projection 4 x 640, hidden 8 x 640 and dropout 0.5 ----
BATCH_SIZE: Final = 1024
LEARNING_RATE: Final = 1e-4
ALPHA_POS: Final = 10.0
ALPHA_NEG: Final = 0.1
MARGIN: Final = 0.2
PROJECTION_DIM: Final = 2560
HIDDEN_DIM: Final = 5120
DROPOUT: Final = 0.5

# ---- SEARLE: Baldrati et al., "Zero-Shot Composed Image Retrieval with Textual Inversion", arXiv 2303.15247; numbers
# are the defaults of its released code (github.com/miccunifi/SEARLE, a9c314b), in the file that is named. Its tables
# are not at hand but for the rows that SCOT's own repeat below ----
SEARLE_IMAGES: Final = 100_000  # README: ImageNet1K's test images, ILSVRC2012_test_00000001 to 00100000
SEARLE_CONCEPTS: Final = 20_931  # data/oidv7-class-descriptions.csv
SEARLE_PHRASES: Final = 256  # of a concept: src/gpt_phrases_generation.py
SEARLE_EPOCHS: Final = 100  # src/train_phi.py, as the two below
SEARLE_BATCH: Final = 256
SEARLE_LEARNING_RATE: Final = 1e-4

# ---- Benchmarks: queries and gallery images of the published files (FashionIQ, CIRR and CIRCO repositories) ----
FASHIONIQ_VAL: Final = {"dress": (2017, 3817), "shirt": (2038, 6346), "toptee": (1961, 5373)}
CIRR_SIZES: Final = {"val": (4181, 2297), "test1": (4148, 2315)}
CIRCO_QUERIES: Final = {"val": 220, "test": 800}
CIRCO_GALLERY: Final = 123_403

CITATION: Final = "arXiv 2501.08347"

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


def _fashioniq(setting: str, backbone: str, method: str, *printed: float, remark: str = "") -> Reported:
    values = dict(zip(_FASHIONIQ_METRICS, printed, strict=True))
    return Reported("Table 1, FashionIQ val", setting, backbone, method, values, remark)


def _cirr(setting: str, backbone: str, method: str, *printed: float, remark: str = "") -> Reported:
    values = dict(zip(_CIRR_METRICS, printed, strict=len(printed) > 4))
    return Reported("Table 2, CIRR test1", setting, backbone, method, values, remark)


# fmt: off
TABLE_1: Final = (  # average R@10, R@50, then dress, shirt, toptee
    _fashioniq(SUPERVISED, "Multi", "MAAF", 24.3, 48.8, 23.8, 48.6, 21.3, 44.2, 27.9, 53.6),
    _fashioniq(SUPERVISED, "Multi", "DCNet", 30.44, 58.29, 28.95, 56.07, 23.95, 47.30, 30.44, 58.29,
               remark="the printed averages repeat Top/Tee; the categories average 27.78 and 53.89"),
    _fashioniq(SUPERVISED, "Multi", "FashionVLP", 34.27, 62.51, 32.42, 60.29, 31.89, 58.44, 38.51, 68.79),
    _fashioniq(SUPERVISED, "CLIP L/14", "CLIP4CIR", 38.32, 61.74, 33.81, 59.40, 39.99, 60.45, 41.41, 65.37,
               remark="average R@10 is printed as 38.32; the categories average 38.40"),
    _fashioniq(SUPERVISED, "BLIP", "BLIP4CIR", 43.49, 67.31, 42.09, 67.33, 41.76, 64.28, 46.61, 70.32),
    _fashioniq(ZERO_SHOT, "CLIP B/32", "Image-Only", 5.88, 13.19, 6.96, 14.08, 4.46, 11.89, 6.22, 13.61,
               remark="Dress above Shirt, where all other encoders have it far below: the two look swapped"),
    _fashioniq(ZERO_SHOT, "CLIP B/32", "Text-Only", 18.41, 36.28, 14.92, 33.81, 19.77, 34.69, 20.55, 40.33),
    _fashioniq(ZERO_SHOT, "CLIP B/32", "Image+Text", 13.36, 27.51, 12.44, 28.55, 12.61, 24.82, 15.04, 29.16),
    _fashioniq(ZERO_SHOT, "CLIP B/32", "PALAVRA", 19.76, 37.25, 17.25, 35.94, 21.49, 37.05, 20.55, 38.76),
    _fashioniq(ZERO_SHOT, "CLIP B/32", "SEARLE", 22.89, 42.53, 18.54, 39.51, 24.44, 41.61, 18.54, 39.51,
               remark="printed Top/Tee repeats Dress; the printed averages ask for 25.69 and 46.47"),
    _fashioniq(ZERO_SHOT, "CLIP B/32", "TransAgg", 23.91, 44.68, 19.44, 42.04, 25.37, 42.69, 26.93, 49.31),
    _fashioniq(ZERO_SHOT, "CLIP B/32", OURS, 24.14, 43.44, 19.73, 41.24, 25.51, 42.93, 27.18, 46.14),
    _fashioniq(ZERO_SHOT, "CLIP L/14", "Image-Only", 7.97, 17.43, 5.25, 13.63, 10.54, 20.65, 8.10, 18.01),
    _fashioniq(ZERO_SHOT, "CLIP L/14", "Text-Only", 19.01, 35.26, 15.22, 33.01, 19.82, 33.31, 21.87, 39.46,
               remark="average R@10 is printed as 19.01; the categories average 18.97"),
    _fashioniq(ZERO_SHOT, "CLIP L/14", "Image+Text", 18.12, 33.17, 14.27, 31.33, 19.13, 32.28, 20.95, 35.90),
    _fashioniq(ZERO_SHOT, "CLIP L/14", "Pic2Word", 24.7, 43.7, 20.0, 40.2, 26.2, 43.6, 27.9, 47.4),
    _fashioniq(ZERO_SHOT, "CLIP L/14", "SEARLE-XL", 25.56, 46.23, 20.48, 43.13, 26.89, 45.58, 29.32, 49.97),
    _fashioniq(ZERO_SHOT, "CLIP L/14", "TransAgg", 28.57, 48.29, 23.85, 44.57, 29.54, 47.79, 32.33, 52.52),
    _fashioniq(ZERO_SHOT, "CLIP L/14", OURS, 28.27, 47.44, 23.69, 45.06, 29.09, 47.01, 32.02, 50.33,
               remark="average R@50 is printed as 47.44; the categories average 47.47"),
    _fashioniq(ZERO_SHOT, "BLIP", "Image-Only", 6.65, 15.40, 5.05, 12.19, 7.55, 17.76, 7.34, 16.26),
    _fashioniq(ZERO_SHOT, "BLIP", "Text-Only", 24.01, 42.73, 20.03, 39.96, 24.63, 41.02, 27.38, 47.22),
    _fashioniq(ZERO_SHOT, "BLIP", "Image+Text", 8.06, 18.16, 6.14, 19.78, 9.37, 19.87, 8.66, 19.78,
               remark="printed Dress R@50 repeats Top/Tee; the printed average 18.16 asks for 14.83"),
    _fashioniq(ZERO_SHOT, "BLIP", "TransAgg", 26.95, 46.10, 21.67, 41.89, 28.07, 45.63, 31.11, 50.79),
    _fashioniq(ZERO_SHOT, "BLIP", OURS, 30.68, 51.33, 26.42, 49.23, 30.91, 49.65, 34.72, 55.12),
    _fashioniq(ZERO_SHOT, "BLIP-2", "Image-Only", 7.53, 17.93, 4.21, 11.89, 10.59, 23.51, 7.81, 18.41),
    _fashioniq(ZERO_SHOT, "BLIP-2", "Text-Only", 24.68, 43.59, 20.77, 41.64, 25.95, 42.83, 27.33, 46.31),
    _fashioniq(ZERO_SHOT, "BLIP-2", "Image+Text", 29.21, 50.05, 23.30, 45.61, 32.82, 53.09, 31.51, 51.45),
    _fashioniq(ZERO_SHOT, "BLIP-2", OURS, 38.45, 60.03, 32.78, 55.91, 41.42, 61.09, 41.15, 63.10,
               remark="§4.3 gives 11.78 points of R@10 over SEARLE-XL, the table 12.89; its 13.8 of R@20 are R@50's"),
)

TABLE_2: Final = (  # R@1, 5, 10, 50, then Rs@1, 2, 3
    _cirr(SUPERVISED, "Multi", "MAAF", 10.31, 33.03, 48.30, 80.06, 21.05, 41.81, 61.60),
    _cirr(SUPERVISED, "OSCAR", "CIRPLANT", 19.55, 52.55, 68.39, 92.38, 39.20, 63.03, 79.49),
    _cirr(SUPERVISED, "CLIP L/14", "CLIP4CIR", 33.59, 65.35, 77.35, 95.21, 62.39, 81.81, 92.02),
    _cirr(SUPERVISED, "BLIP", "BLIP4CIR", 40.15, 73.08, 83.88, 96.27, 72.10, 88.27, 95.93),
    _cirr(ZERO_SHOT, "CLIP B/32", "Image-Only", 6.94, 22.94, 33.71, 59.18, 21.06, 41.01, 60.34),
    _cirr(ZERO_SHOT, "CLIP B/32", "Text-Only", 21.16, 45.35, 57.40, 81.06, 62.26, 81.08, 90.75),
    _cirr(ZERO_SHOT, "CLIP B/32", "Image+Text", 10.46, 32.41, 46.39, 75.11, 30.09, 54.24, 73.20),
    _cirr(ZERO_SHOT, "CLIP B/32", "PALAVRA", 16.62, 43.49, 58.51, 83.95, 41.61, 65.30, 80.94),
    _cirr(ZERO_SHOT, "CLIP B/32", "SEARLE", 24.00, 53.42, 66.82, 89.78, 54.89, 76.60, 88.19),
    _cirr(ZERO_SHOT, "CLIP B/32", "TransAgg", 24.46, 53.61, 67.54, 89.81, 57.81, 78.17, 89.54),
    _cirr(ZERO_SHOT, "CLIP B/32", OURS, 22.80, 53.18, 66.22, 89.64, 53.25, 75.45, 88.31),
    _cirr(ZERO_SHOT, "CLIP L/14", "Image-Only", 7.47, 23.88, 34.07, 57.57, 20.87, 41.95, 61.13),
    _cirr(ZERO_SHOT, "CLIP L/14", "Text-Only", 22.00, 45.79, 57.57, 79.59, 61.71, 80.26, 90.43),
    _cirr(ZERO_SHOT, "CLIP L/14", "Image+Text", 10.55, 32.70, 45.71, 74.26, 31.06, 55.69, 73.93),
    _cirr(ZERO_SHOT, "CLIP L/14", "Pic2Word", 23.9, 51.7, 65.3, 87.8),
    _cirr(ZERO_SHOT, "CLIP L/14", "SEARLE-XL", 24.24, 52.48, 66.29, 88.84, 53.76, 75.01, 88.19),
    _cirr(ZERO_SHOT, "CLIP L/14", "TransAgg", 25.04, 53.98, 67.59, 88.94, 55.33, 76.82, 88.94),
    _cirr(ZERO_SHOT, "CLIP L/14", OURS, 24.36, 53.52, 67.37, 89.35, 51.47, 74.24, 87.90),
    _cirr(ZERO_SHOT, "BLIP", "Image-Only", 7.23, 25.78, 37.35, 62.34, 20.60, 40.96, 61.35),
    _cirr(ZERO_SHOT, "BLIP", "Text-Only", 34.19, 61.68, 71.74, 87.83, 72.34, 87.97, 94.79),
    _cirr(ZERO_SHOT, "BLIP", "Image+Text", 8.24, 28.96, 41.23, 68.07, 23.64, 45.35, 66.29),
    _cirr(ZERO_SHOT, "BLIP", "TransAgg", 34.89, 64.75, 76.24, 92.22, 66.34, 83.76, 92.92),
    _cirr(ZERO_SHOT, "BLIP", OURS, 36.31, 66.19, 77.37, 92.96, 64.73, 83.20, 92.15),
    _cirr(ZERO_SHOT, "BLIP-2", "Image-Only", 7.59, 24.43, 35.56, 61.42, 20.74, 40.67, 61.08),
    _cirr(ZERO_SHOT, "BLIP-2", "Text-Only", 33.52, 61.50, 71.35, 88.31, 72.53, 88.02, 94.87),
    _cirr(ZERO_SHOT, "BLIP-2", "Image+Text", 19.69, 49.98, 64.39, 90.01, 45.69, 71.18, 85.83),
    _cirr(ZERO_SHOT, "BLIP-2", OURS, 36.82, 64.34, 74.48, 93.42, 75.73, 88.70, 94.84,
          remark="§4.3 gives 10.86 points of R@5 over SEARLE-XL; the table gives 11.86"),
)
# fmt: on


def _supervision(kind: str, *printed: float) -> Reported:
    values = dict(zip(_FASHIONIQ_METRICS, printed, strict=True))
    return Reported("Table 3, FashionIQ, trained on LAION-CIR-LLM", ZERO_SHOT, "BLIP-2", kind, values)


TABLE_3: Final = (
    _supervision("Image supervision", 29.02, 50.49, 22.65, 45.06, 33.21, 53.28, 31.20, 53.13),
    _supervision("Text supervision (SCOT)", 35.17, 56.16, 29.54, 50.96, 36.45, 57.26, 39.52, 60.27),
)

REPORTED: Final = {"fashioniq": TABLE_1, "cirr": TABLE_2}
REPORTED_SPLITS: Final = {"fashioniq": "val", "cirr": "test1"}

# ---- The metric that stands for a benchmark where there is room for one: Figure 5 takes FashionIQ's R@10 ----
MAIN_METRICS: Final = {
    "fashioniq": "R@10",
    "cirr": "R@1",
    "circo": "mAP@5",
    "catalogue": "R@1",
    "own": "R@1",
    "mined": "R@1",
}


VALIDATION: Final = "val"


@dataclass(frozen=True, slots=True)
class Variant:
    """One split of a benchmark, as it is named: `cirr` is the validation split of CIRR, `cirr-test1` another one."""

    benchmark: str
    split: str

    @classmethod
    def parse(cls, name: str) -> Self:
        """Any name is one: that there is such a benchmark is for whoever opens it."""
        benchmark, _, split = name.partition("-")
        return cls(benchmark, split or VALIDATION)

    def __str__(self) -> str:
        return self.benchmark if self.split == VALIDATION else f"{self.benchmark}-{self.split}"


def main_metric(name: str) -> str:
    """One of MAIN_METRICS; a split such as `cirr-test1` counts as its benchmark."""
    return MAIN_METRICS[Variant.parse(name).benchmark]
