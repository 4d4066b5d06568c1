"""Composed search over a lake or a folder: everything that queries share is loaded once."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image

from scot_core.combiner import Combiner
from scot_core.encoders import Encoder, EncoderSpec, load, load_as
from scot_core.encoders.preprocessing import UNDECODABLE
from scot_core.encoders.spec import KnowsWords
from scot_core.errors import ConfigError, DataError, LakeError
from scot_core.lake import Dataset, Lake
from scot_core.lake.generations import find
from scot_core.lake.promotion import combiners_in_use
from scot_core.retrieval import top_k
from scot_core.search.answer import Answer
from scot_core.search.images import FolderImages, LakeImages, Searched
from scot_core.search.methods import ByCombiner, ByName, Method
from scot_core.stages.benchmark.chosen import embeddings_of
from scot_core.stages.embed.vectors import encoder_of, made_by
from scot_core.stages.methods.ground import Ground
from scot_core.stages.train import first_combiner
from scot_core.vectors import Vectors

ALIKE = 0.999  # cosine similarity from which an image may be the reference itself
COMPARED = 64  # images whose pixels are looked at for that, at most

Place = str | PathLike[str]


class Searcher:
    """A trained Combiner over images, loaded once and asked as often as one likes.

    ```
    searcher = Searcher("lake")                                   # the promoted Combiner, else the newest
    searcher = Searcher("lake", combiner="gen-catalogue-1f2e3d")  # of a generation, or by its key
    searcher = Searcher("lake", "photos")                         # over the images below a folder
    searcher = Searcher(gallery="photos", combiner="exported")    # without a lake: a folder of weights
    answer = searcher.search("mug.png", "in red instead", k=5)    # rank, image_id, score, caption: answer.hits
    ```

    Args:
        lake: a lake, or its path or URL. Searched are the images that the Combiner was trained on, with those of its
            source's benchmark; for a Combiner of a folder the newest that its encoder embedded.
        gallery: a folder whose images, at any depth, are searched in place of the lake's. They are embedded once and
            kept (`SCOT_CACHE`); a file that changed is seen when the next Searcher is made.
        combiner: a key of table `combiners`, a generation (`scot runs`), or a folder that `Combiner.save` wrote.
        encoder: the name of the encoder, for a folder whose config.json does not say it.
        method: what composes queries in place of a Combiner: a name of `scot_core.methods`, which learned from the
            lake, or what was made for the encoder.

    Attributes:
        encoder: the frozen encoder of images and texts.
        ids, vectors: of the images, in one order; vectors are (G, D) float32 of length one.
        left_out: images of the folder that cannot be read, by id, each with the reason.

    Raises:
        LakeError: no such Combiner, or no embeddings.
        ConfigError: neither lake nor folder is given, or Combiner and encoder do not fit.
        ModelError: the encoder's weights are not here, or not those that it was trained on.
        DataError: no image to search.
    """

    def __init__(
        self, lake: Lake | Place | None = None, gallery: Place | None = None, *, combiner: Place | None = None,
        encoder: str | None = None, method: Method | str | None = None,
    ) -> None:  # fmt: skip
        place = lake if isinstance(lake, Lake) or lake is None else Lake(lake)
        embeddings: list[Dataset] = []
        if isinstance(method, str):
            self.method, self.encoder, embeddings = _by_name(place, combiner, method)
        else:
            dataset = _dataset(place, combiner)
            if dataset is not None and place is not None:
                images = embeddings_of(place, dataset)
                embeddings = [images, *_of_benchmark(place, dataset.source, images)]
                weights, self.encoder = first_combiner(dataset), encoder_of(images)
            else:
                weights, self.encoder = _from_folder(place, combiner, encoder)
                if gallery is None:
                    embeddings = _embedded_by(place, self.encoder.spec)
            self.method = method or ByCombiner(weights, self.encoder)
        self._images: Searched
        if gallery is not None:
            self._images = FolderImages(Path(gallery), self.encoder)
        else:
            assert place is not None, "embeddings are in a lake"
            self._images = LakeImages(place, embeddings)

    @property
    def ids(self) -> list[str]:
        return self._images.ids

    @property
    def vectors(self) -> Vectors:
        return self._images.vectors

    @property
    def left_out(self) -> Mapping[str, str]:
        return self._images.left_out

    def search(
        self, image: Place | Image.Image, text: str, k: int = 5, *, with_reference: bool = False
    ) -> Answer:  # fmt: skip
        """The k images nearest to the composed query; the reference image is none of them unless it may be.

        Raises DataError for a file that is no image, and for a text without a word; ConfigError for k below 1.
        """
        if not text.strip():
            raise DataError("the text is empty: say what should be different, such as --text 'in red instead'")
        if k < 1:
            raise ConfigError(f"k must be at least 1, not {k}")
        reference = image if isinstance(image, Image.Image) else _open(Path(image))
        vector = self.encoder.embed_images([reference])
        composed = self.method.compose(vector, [text])
        same = set() if with_reference else self._same(reference, self.vectors @ vector[0])
        if len(same) == len(self._images.ids):
            raise DataError("no image is searched but the reference itself")
        scores, indices = top_k(composed.vectors, self.vectors, k + len(same))
        best = [(int(row), float(score)) for row, score in zip(indices[0], scores[0], strict=True) if row not in same]
        ids = [self._images.ids[row] for row, _ in best[:k]]
        shown = self._images.shown(ids)
        hits = [
            {"rank": rank, "image_id": image_id, "score": round(score, 4), "caption": found.caption}
            for rank, (image_id, (_, score), found) in enumerate(zip(ids, best, shown, strict=False), start=1)
        ]
        unknown = self.encoder.unknown_words(text) if isinstance(self.encoder, KnowsWords) else []
        weight = None if composed.weights is None else float(composed.weights[0])
        return Answer(reference, weight, hits, [found.image for found in shown], text, unknown)

    def _same(self, reference: Image.Image, similarity: Vectors) -> set[int]:
        """Images with the very pixels of the reference, among those whose vectors are as good as its own."""
        near = np.flatnonzero(similarity > ALIKE)
        near = near[np.argsort(-similarity[near], kind="stable")][:COMPARED]
        found = self._images.shown([self._images.ids[int(row)] for row in near])
        alike = [
            (row, other.image) for row, other in zip(near, found, strict=True) if other.image.size == reference.size
        ]
        pixels = _pixels(reference) if alike else b""
        return {int(row) for row, image in alike if _pixels(image) == pixels}


def _dataset(lake: Lake | None, wanted: Place | None) -> Dataset | None:
    """Combiners of a lake: the promoted or newest ones, those of a key, or those of a generation."""
    if lake is None:
        return None
    if wanted is None:
        found = combiners_in_use(lake)
        if found is None and not lake.table("combiners").matching():
            raise LakeError(f"{lake.url} holds no Combiner to search with: run `scot run` first")
        return found or lake.table("combiners").latest()
    found = lake.table("combiners").find(str(wanted))
    if found is not None or Path(wanted).expanduser().is_dir():
        return found
    try:
        generation = find(lake, str(wanted))
    except ConfigError as error:
        raise LakeError(f"{wanted!r} is no key of table combiners and no folder with a Combiner; {error}") from error
    if generation.combiners is None:
        raise LakeError(f"generation {generation.id} ends in {generation.root.name}: no Combiner was trained yet")
    return generation.combiners


def _by_name(lake: Lake | None, wanted: Place | None, name: str) -> tuple[Method, Encoder, list[Dataset]]:
    """A method by its name, over the images of the Combiner that is wanted or in use, else the newest ones."""
    dataset = None if wanted is None else _dataset(lake, wanted)
    if lake is None or (wanted is not None and dataset is None):
        raise ConfigError(f"method {name!r} learns from a lake: name one, and a Combiner of it by its key, if any")
    ground = Ground.of(lake, None if dataset is None else dataset.key)
    embeddings = [ground.images, *_of_benchmark(lake, ground.images.source, ground.images)]
    if ground.combiners is not None and ground.combiners.config["loss"] == name:
        encoder = encoder_of(ground.images)
        return ByCombiner(first_combiner(ground.combiners), encoder), encoder, embeddings
    found = ByName(name, ground)
    return found, found.encoder, embeddings


def _from_folder(lake: Lake | None, place: Place | None, name: str | None) -> tuple[Combiner, Encoder]:
    if place is None:
        raise ConfigError("name a lake, or a folder with a Combiner's weights")
    folder = Path(place).expanduser()
    combiner = Combiner.load(folder)
    if name is not None:
        encoder = load(name, lake=lake)
    elif combiner.encoder is None:
        raise ConfigError(f"the Combiner in {folder} does not say which encoder it was trained on: name it (--encoder)")
    else:
        what = f"what the Combiner in {folder} was trained on"
        encoder = load_as(EncoderSpec.model_validate(combiner.encoder), what, lake)
    if encoder.spec.dim != combiner.feature_dim:
        raise ConfigError(
            f"the Combiner in {folder} takes vectors of {combiner.feature_dim}, encoder {encoder.spec.name} gives "
            f"{encoder.spec.dim}: name the encoder that it was trained on (--encoder)"
        )
    return combiner, encoder


def _of_benchmark(lake: Lake, source: str, images: Dataset) -> list[Dataset]:
    """The images of the source's benchmark by the same encoder: those drawn with these captions, else the newest."""
    galleries = lake.table("embeddings").matching(source=source, stage="embed-gallery")
    own = [gallery for gallery in galleries if made_by(gallery) == made_by(images)]
    drawn = [gallery for gallery in own if _key_of_input(gallery) == _key_of_input(images)]
    return (drawn or own)[-1:]


def _embedded_by(lake: Lake | None, spec: EncoderSpec) -> list[Dataset]:
    """The newest images that an encoder embedded into a lake."""
    known = [] if lake is None else lake.table("embeddings").matching(stage="embed-images")
    fitting = [dataset for dataset in known if made_by(dataset) == spec]
    if lake is None or not fitting:
        where = "no lake is given" if lake is None else f"{lake.url} holds no images embedded by {spec.name} as it is"
        raise ConfigError(f"nothing to search: {where}; name a folder of images (--gallery)")
    return [fitting[-1], *_of_benchmark(lake, fitting[-1].source, fitting[-1])]


def _key_of_input(embeddings: Dataset) -> str | None:
    return embeddings.inputs[0].key if embeddings.inputs else None


def _pixels(image: Image.Image) -> bytes:
    return image.convert("RGB").tobytes()


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path.expanduser())
        image.load()
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error
    except UNDECODABLE as error:
        raise DataError(f"{path} is not an image that can be read: {error}") from error
    return image
