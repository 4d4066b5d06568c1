"""Figure 5: what the Combiner adds to the text alone, as the encoder improves."""

from __future__ import annotations

from scot_core.studies.spec import Cell, Study, grid

OVER_TOWERS = ("embed.encoder=fitted",)
FROM_NOTHING = (*OVER_TOWERS, "fit.image_tower=nothing")

STUDY = Study(
    name="backbone",
    question="Does the gain of the Combiner over text alone and over the tuned sum grow with the encoder?",
    place="Figure 5",
    cells=(
        Cell("encoder", "shipped", ("embed.encoder=catalogue",)),
        *(Cell("encoder", name, (f"embed.encoder={name}",)) for name in ("clip-b32", "clip-l14", "blip", "blip2")),
        *grid("fit.steps", (100, 300, 1000), "steps of fitting one from nothing", also=FROM_NOTHING),
        *grid("fit.dim", (16, 64, 256), "length of its vectors, fitted over towers", also=OVER_TOWERS),
    ),
    against="encoder shipped",
    minutes=40,
    methods=("text-only", "tuned-sum"),
    note="An encoder from nothing is the small shipped architecture, fitted to the captioned images alone; one "
    "over towers is two projections of EfficientNet-Lite0 and MiniLM (`make towers`), fitted to them. Published ones "
    "are measured where their weights are (SCOT_WEIGHTS).",
)
