"""Figure 4: how much the Combiner lets the text weigh, by what the edit does."""

from __future__ import annotations

from scot_core.studies.spec import TEXT_WEIGHT, Cell, Study, grid

STUDY = Study(
    name="weight",
    question="Does the Combiner trust the text more where an edit asks for more, and on what does that depend?",
    place="Figure 4",
    cells=(
        *grid("train.loss", ("scot", "scot-without-captions", "infonce", "scot-grounded")),
        Cell("targets", "true", ("train.targets=true",)),
    ),
    against="loss scot",
    minutes=6,
    methods=(),
    metric=TEXT_WEIGHT,
    by="kind",
    note="The scalar s of the Combiner's last sum, in percent: the text embedding has s, the image's 1 - s.",
)
