"""The third of the next checks: how few compositions must be shown for the others to be understood."""

from __future__ import annotations

from scot_core.studies.spec import Cell, Study, grid

STUDY = Study(
    name="composition",
    question="How many pairs of a type and a colour or pattern may be missing from the Combiner's triplets, and what "
    "if the encoder knew them all?",
    place="next check 3",
    cells=(
        *grid("train.held_out", (0.0, 0.1, 0.3, 0.5, 0.7), line="300 triplets", also=("train.count=300",)),
        *grid("train.held_out", (0.0, 0.1, 0.3, 0.5, 0.7), line="all that are left"),
        Cell("encoder", "that saw seen products", ("embed.encoder=catalogue",)),
        Cell("encoder", "that saw all products", ("embed.encoder=catalogue-whole",)),
    ),
    against="held_out 0.0, all that are left",
    minutes=14,
    note="A triplet is left out where its caption, its modified caption or what it asks for shows a pair that is held "
    "out; the captioned images and the encoder are the same. The line of 300 triplets tells pairs from numbers. The "
    "encoder that saw all products was pretrained like the shipped one, on held-out combinations and types as well: "
    "what it adds on those splits is the encoder's share of what is not understood.",
)
