"""SEARLE's next checks: what its L_gpt is worth, and what the network loses against inversion of each image."""

from __future__ import annotations

from scot_core.studies.spec import Cell, Study

PHI = ("distill.seeds=0,1,2,3,4",)


def _cell(panel: str, x: str, method: str, *settings: str) -> Cell:
    return Cell(panel, x, (f"distill.method={'searle' if method == 'searle-oti' else method}", *settings), "", method)


STUDY = Study(
    name="searle",
    question="What is L_gpt worth, and what is lost by a network in place of inverting each image?",
    place="SEARLE's next checks",
    cells=(
        _cell("method", "searle", "searle", *PHI),
        _cell("method", "searle-oti", "searle-oti", *PHI),
        _cell("method", "pic2word", "pic2word", *PHI),
        _cell("method", "lincir", "lincir", *PHI),
        _cell("without L_gpt", "network", "searle", *PHI, "distill.lambda_gpt=0"),
        _cell("without L_gpt", "both", "searle", *PHI, "distill.lambda_gpt=0", "invert.lambda_gpt=0"),
        _cell("without L_gpt", "oti", "searle-oti", *PHI, "invert.lambda_gpt=0"),
    ),
    against="method searle",
    minutes=20,
    methods=("image+text",),
    note="searle is the network, searle-oti inverts the image of each query; the same encoder and queries for all. "
    "A network cannot be trained with L_gpt on images inverted without it: what phrases it would read is found there.",
)
