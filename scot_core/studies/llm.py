"""The first of the next checks: who writes the triplets, how they are filtered, and how wrong they may be."""

from __future__ import annotations

from scot_core.studies.spec import Study, grid

FILTERS = ("off", "lenient", "strict")

STUDY = Study(
    name="llm",
    question="How good must the triplets be: who writes them, how strictly are they filtered, how many may be wrong?",
    place="next check 1",
    cells=(
        *grid("generate.sources", ("seed", "generated", "mined"), "written by", also=("train.count=2400",)),
        *grid("generate.filter", FILTERS),
        *grid("train.wrong", (0.0, 0.15, 0.3, 0.5, 0.7, 0.9)),
    ),
    against="filter strict",
    minutes=13,
    note="Written by: the teacher (seed), the tuned language model (generated), or found in the captions (mined), "
    "2,400 triplets each. Wrong triplets have the modified caption of another one.",
)
