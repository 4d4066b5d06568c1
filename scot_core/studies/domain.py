"""The second of the paper's next checks: trained in one world, asked in another."""

from __future__ import annotations

from scot_core.studies.spec import Cell, Study

EQUAL = "train.count=10000"

STUDY = Study(
    name="domain",
    question="Trained in one world, does the Combiner compose what another shows?",
    place="next check 2",
    cells=(
        *(Cell("trained on", name, (f"train.folders={name}", EQUAL)) for name in ("catalogue", "fluent", "noto")),
        Cell("trained on", "emoji", ("train.folders=fluent,noto", EQUAL)),
        Cell("trained on", "both", (EQUAL,)),
        Cell("trained on", "both, 20,000", ("train.count=20000",)),
    ),
    against="trained on both",
    minutes=20,
    by="folder",
    note="Of the pictures that `make worlds` puts into one table: the drawn catalogue, and emoji as two firms draw "
    "them (fluent, noto; emoji is the two). 10,000 triplets each, of both worlds together too, and 20,000 of them. "
    "The encoder was fitted to all of them; a query counts for the folder of its reference, its targets lie anywhere.",
)
