"""What methods with pseudo-tokens share: φ's, and the sentences that these stand in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from scot_core.methods.spec import Compose, Known, Need, Queries, Ready

if TYPE_CHECKING:  # loads torch
    from torch import Tensor

    from scot_core.searle import Phi, PseudoTokenTower
    from scot_core.searle.queries import Ask
    from scot_core.vectors import Vectors


def inverters(name: str) -> Need:
    """The φ of a method."""
    return Need("inverters", f"scot run --set distill.method={name} --until distill", {"method": name})


def by_phi(name: str, ask: Ask | None = None) -> Callable[[Known], Ready]:
    """Each φ of a method's inverters gives the reference images' pseudo-tokens, in sentences by `ask` (SEARLE's)."""

    def ready(known: Known) -> Ready:
        from scot_core.searle import Phi

        tower = known.tower  # first: an encoder that gives none is told before anything is read
        loaded = known.load(inverters(name), Phi.load).items()
        return Ready(name, {run: phi_composer(phi, tower, ask) for run, phi in loaded})

    return ready


def written(tower: PseudoTokenTower, words: Tensor, queries: Queries, ask: Ask | None = None) -> Vectors:
    """Query vectors (Q, D) of pseudo-tokens (Q, W) in the sentences of their texts; of two texts, FashionIQ's, in both
    orders."""
    from scot_core.searle import compose, compose_both_orders, query_sentence

    ask, texts = ask or query_sentence, queries.modifications
    if all(len(both) == 2 for both in texts):
        composed = compose_both_orders(tower, words, [(both[0], both[1]) for both in texts], ask)
    else:
        composed = compose(tower, words, queries.requests, ask)
    vectors: Vectors = composed.float().cpu().numpy()
    return vectors


def phi_composer(phi: Phi, tower: PseudoTokenTower, ask: Ask | None = None) -> Compose:
    import torch

    def compose_by_phi(queries: Queries) -> Vectors:
        with torch.inference_mode():
            return written(tower, phi(torch.from_numpy(queries.images)), queries, ask)

    return compose_by_phi
