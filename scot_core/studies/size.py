"""Figure 6: recall against the number of triplets, and against who wrote them."""

from __future__ import annotations

from scot_core.studies.spec import Cell, Study, grid

MIXES = ("seed", "generated", "mined", "seed,generated", "generated,mined", "seed,generated,mined")

STUDY = Study(
    name="size",
    question="How does recall grow with the number of triplets, and which mix of sources is best at one number?",
    place="Figure 6",
    cells=(
        *grid("train.count", (150, 300, 600, 1200, 2400, 4800), line="generated"),
        *grid("train.count", (150, 300, 600, 1200, 2400), line="seed", also=("generate.sources=seed",)),
        *(Cell("sources", mix, (f"generate.sources={mix}", "train.count=2400")) for mix in MIXES),
    ),
    against="count 4800, generated",
    minutes=20,
    note="The triplets of a smaller number are among those of a larger one; the sum's weight is chosen on up to 2,000 "
    "triplets of the same sources, whatever the number.",
)
