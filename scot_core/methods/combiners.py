"""The Combiner (§3.2), trained on triplets with the paper's loss, InfoNCE in its place, or a recipe of Scot's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scot_core.methods.spec import Compose, Known, Method, Need, Queries, Ready

if TYPE_CHECKING:  # loads torch
    from scot_core.combiner import Combiner
    from scot_core.vectors import Vectors


def composed(combiner: Combiner, images: Vectors, texts: Vectors, modality_weight: float | None = None) -> Vectors:
    """V_c = f_c(V, T_m) of each pair, (N, D); the text weighs as the Combiner chooses, or as it is told."""
    import torch

    with torch.inference_mode():
        vectors: Vectors = combiner(torch.from_numpy(images), torch.from_numpy(texts), modality_weight).numpy()
    return vectors


def by_combiner(combiner: Combiner, known: Known) -> Compose:
    def compose(queries: Queries) -> Vectors:
        if not combiner.known_words:
            return composed(combiner, queries.images, queries.texts)
        return composed(combiner, queries.images, known.embed_requests(queries.requests))

    return compose


def trained_with(loss: str, about: str = "", source: str = "SCOT, §3.2-3.3") -> Method:
    """The Combiner of a loss."""
    setting = "" if loss == "scot" else f"--set train.loss={loss} "
    need = Need("combiners", f"scot run {setting}--until train", {"loss": loss})

    def ready(known: Known) -> Ready:
        from scot_core.combiner import Combiner

        combiners = known.load(need, Combiner.load)
        return Ready(loss, {run: by_combiner(combiner, known) for run, combiner in combiners.items()})

    return Method(loss, about, source, ready, needs=(need,))


METHODS = (
    trained_with("scot", "the Combiner, trained on triplets with the paper's loss"),
    trained_with("infonce", "the Combiner, trained with InfoNCE"),
    trained_with("scot-grounded", "the Combiner, trained from the tuned sum towards where images are", "Scot's recipe"),
)
