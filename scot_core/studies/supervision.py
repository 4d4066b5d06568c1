"""Table 3: what a composed query is taught to be near, as the corpus that images are retrieved from grows."""

from __future__ import annotations

from scot_core.studies.spec import Cell, Study, grid

CORPUS = (375, 750, 1500, 3000)

STUDY = Study(
    name="supervision",
    question="Are modified captions better targets than retrieved images, and how much denser must the images be?",
    place="Table 3",
    cells=(
        *(Cell("targets", name, (f"train.targets={name}",)) for name in ("text", "retrieved", "both", "true")),
        *grid("train.corpus", CORPUS, line="retrieved", also=("train.targets=retrieved",)),
        *grid("train.corpus", CORPUS, line="both", also=("train.targets=both",)),
    ),
    against="targets text",
    minutes=15,
    note="Retrieved is the captioned image nearest to the modified caption, among as many as the corpus has (under "
    "targets: all); both is each triplet twice; true is an image of what was asked for, drawn for the purpose.",
)
