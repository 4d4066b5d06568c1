"""Section 4.4: what each part of the loss, and of the training, is worth."""

from __future__ import annotations

from scot_core.studies.spec import Cell, Study, grid

GROUNDED = ("train.loss=scot-grounded",)
PARTS = (
    ("gap", 0),
    ("start", "random"),
    ("moved_captions", 0),
    ("rewordings", 0),
    ("lead", 0),
    ("known_words", "false"),
)

STUDY = Study(
    name="loss",
    question="What are the margin, the captions as negatives, their weight and the settings of the training worth?",
    place="§4.4",
    cells=(
        *grid("train.loss", ("scot", "scot-without-margin", "scot-without-captions", "infonce", "scot-grounded")),
        *grid("train.margin", (0.0, 0.2, 0.4, 0.6)),
        *grid("train.alpha_neg", (0.0, 0.1, 1.0, 10.0)),
        *grid("train.learning_rate", (0.0001, 0.001, 0.003)),
        *grid("train.batch_size", (64, 256, 1024)),
        Cell("scot-grounded", "whole", GROUNDED),
        *(Cell("scot-grounded", f"{name}={off}", (*GROUNDED, f"train.{name}={off}")) for name, off in PARTS),
    ),
    against="loss scot",
    minutes=30,
)
