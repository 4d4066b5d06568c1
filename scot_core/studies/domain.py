"""The second of the paper's next checks: trained on one kind of pictures, asked with another."""

from __future__ import annotations

from scot_core.studies.spec import Cell, Study

EQUAL = "train.count=10000"

STUDY = Study(
    name="domain",
    question="Trained on the pictures of one hand, does the Combiner compose those of another?",
    place="next check 2",
    cells=(
        *(Cell("trained on", name, (f"train.folder={name}", EQUAL)) for name in ("fluent", "noto")),
        Cell("trained on", "both", (EQUAL,)),
        Cell("trained on", "both, 20,000", ("train.count=20000",)),
    ),
    against="trained on both",
    minutes=15,
    by="folder",
    note="Of the two folders of `make emoji`, the same emoji as two firms draw them: scot study domain --captions "
    "emoji/captions.csv --lake its lake. 10,000 triplets each, and twice as many of both. The encoder was fitted to "
    "both; a query counts for the folder of its reference, and its targets lie in either.",
)
