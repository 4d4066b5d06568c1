"""What every image-text encoder offers, and the record that says exactly which encoder made a vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from scot_core.encoders.preprocessing import Pixels
from scot_core.errors import ModelError

if TYPE_CHECKING:  # loads torch
    from scot_core.vectors import Vectors

Precision = Literal["float32", "bfloat16", "float16"]


class EncoderSpec(BaseModel):
    """Identity of a frozen encoder; part of the key of every embedding it makes.

    Two encoders with equal specs give equal vectors (to floating-point tolerance), so anything that changes
    a vector must change a field here.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="the name `scot_core.encoders.load` knows, or a hub id")
    revision: str = Field(min_length=1, description="digest of the weight file, or the pinned hub commit")
    dim: int = Field(gt=0, description="length of one vector")
    image_size: int = Field(gt=0, description="side in pixels of the square the image tower sees")
    preprocessing: str = Field(min_length=1, description="what is done to pixels and text before the towers")
    pooling: str = Field(min_length=1, description="how a tower's outputs become one vector")
    precision: Precision = "float32"


def require_same(made: EncoderSpec, here: EncoderSpec, what: str) -> None:
    """Raises `ModelError` where the encoder that is here would give other vectors than the one that made `what`."""
    if here != made:
        pairs = [(name, value, getattr(here, name)) for name, value in made]
        other = [f"{name} {now!r}, not {then!r}" for name, then, now in pairs if now != then]
        raise ModelError(
            f"{what} was made by another encoder {made.name}: here it has {'; '.join(other)}. Embed again, or "
            "use the Scot and the weights that made it"
        )


class Encoder(Protocol):
    """A frozen image-text encoder: both modalities end in one space, compared by dot product.

    Results do not depend on which other inputs share a call (to floating-point tolerance), and no input of
    length zero fails: an empty sequence gives an array of shape (0, dim).
    """

    @property
    def spec(self) -> EncoderSpec: ...

    def embed_images(self, images: Sequence[Image.Image]) -> Vectors:
        """(n, dim) float32, L2-normalised; images of any size and mode. Raises `DataError` naming the image
        that does not decode."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) float32, L2-normalised; captions and modification texts alike."""
        ...


@runtime_checkable
class KnowsWords(Encoder, Protocol):
    """An encoder with words of its own, which can tell those that it has never seen."""

    def unknown_words(self, text: str) -> list[str]:
        """Words of a text that pretraining never showed it, each once, in order."""
        ...

    def in_known_words(self, text: str) -> str:
        """A text in words that it has seen, as far as that goes; never empty where the text is not."""
        ...


def embed_requests(encoder: Encoder, texts: Sequence[str], *, known_words: bool) -> Vectors:
    """(n, dim) float32, L2-normalised: requests as they are or, where the encoder can tell, in words that it knows."""
    if known_words and isinstance(encoder, KnowsWords):
        texts = [encoder.in_known_words(text) for text in texts]
    return encoder.embed_texts(texts)


@runtime_checkable
class TakesPixels(Encoder, Protocol):
    """An encoder whose work on a picture comes in two halves, so that others can do the first one ahead of time."""

    def pixels(self, image: Image.Image) -> Pixels:
        """(size, size, 3) uint8 with `size` = `spec.image_size`; may be called from several threads at once.
        Raises `DataError` naming the image that does not decode."""
        ...

    def embed_pixels(self, pixels: Pixels) -> Vectors:
        """(n, size, size, 3) uint8 as `pixels` gives them -> (n, dim) float32, L2-normalised."""
        ...
