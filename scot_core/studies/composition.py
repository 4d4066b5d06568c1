"""The third of the next checks: how few compositions must be shown for the others to be understood."""

from __future__ import annotations

from scot_core.studies.spec import Study, grid

STUDY = Study(
    name="composition",
    question="How many pairs of a type and a colour or pattern may be missing from the Combiner's triplets?",
    place="next check 3",
    cells=(
        *grid("train.held_out", (0.0, 0.1, 0.3, 0.5, 0.7), line="300 triplets", also=("train.count=300",)),
        *grid("train.held_out", (0.0, 0.1, 0.3, 0.5, 0.7), line="all that are left"),
    ),
    against="held_out 0.0, all that are left",
    minutes=11,
    note="A triplet is left out where its caption, its modified caption or what it asks for shows a pair that is held "
    "out; the captioned images and the encoder are the same. The line of 300 triplets tells pairs from numbers.",
)
