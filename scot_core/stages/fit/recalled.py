"""How good a fitted encoder is, as its dataset says; it stands wherever the encoder is named."""

from __future__ import annotations

from dataclasses import dataclass

from scot_core.encoders.fitted_names import fitted_by
from scot_core.lake import Dataset, Lake

HELD_OUT = "held-out"  # phase of the rows of table `encoders` that this reads


@dataclass(frozen=True, slots=True)
class Recalled:
    """Percent of held-out pictures that find their caption first among all captions, and by chance; and how many."""

    recall: float
    chance: float
    pictures: int

    def __str__(self) -> str:
        return f"finds {self.recall:.0f} % of held-out captions"


def recall_of(encoder: Dataset) -> Recalled:
    """The figures of a dataset of table `encoders`."""
    rows = encoder.read(["phase", "metric", "value"]).to_pylist()
    found = {row["metric"]: row["value"] for row in rows if row["phase"] == HELD_OUT}
    return Recalled(found["recall"], found["chance"], int(found["pictures"]))


def label_of(lake: Lake, embeddings: Dataset) -> str:
    """The encoder of a dataset of embeddings as tables name it: a fitted one with what it is worth."""
    name = str(embeddings.config["encoder"])
    fitted = fitted_by(lake, name)
    return name if fitted is None else f"{name} ({recall_of(fitted)})"
