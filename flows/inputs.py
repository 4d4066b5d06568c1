"""The inputs of stage flows: by their keys or, where none is given, by lineage, so that generations never mix.

What is given says which captions a flow works on, else the newest dataset of the last table that it needs; every
other input is the newest that was made from the same captions. Inputs that do not share their captions are refused.
"""

from __future__ import annotations

from collections.abc import Callable

from scot_core.config import DistillConfig, EmbedConfig
from scot_core.errors import ConfigError, LakeError
from scot_core.lake import Dataset, Lake
from scot_core.lake.lineage import ancestor, parents
from scot_core.stages.captions import CaptionedImages
from scot_core.stages.embed import Embeddings
from scot_core.stages.embed.vectors import spec_for


def for_seed(lake: Lake, captions: str | None) -> Dataset:
    """Captions, by default the newest."""
    return lake.table("captions").latest() if captions is None else _given(lake, "captions", captions)


def for_finetune(lake: Lake, captions: str | None, seeds: str | None) -> tuple[Dataset, Dataset]:
    """Captions and the seed triplets written for them."""
    learned_from = _triplets(lake, "seed", seeds, captions)
    pictures = _captions_of(lake, learned_from) if captions is None else _given(lake, "captions", captions)
    _require_same_captions(lake, learned_from, pictures)
    return pictures, learned_from


for_mining = for_seed  # captions, and nothing else


def for_generate(lake: Lake, captions: str | None, adapter: str | None) -> tuple[Dataset, Dataset]:
    """Captions and an adapter. Given both, they may come from different captions: one model writes for many."""
    if adapter is None:
        writer = _newest(lake, "adapters", "finetune", _made_from(lake, captions))
    else:
        writer = _given(lake, "adapters", adapter)
    return _captions_of(lake, writer) if captions is None else _given(lake, "captions", captions), writer


def for_embed(
    lake: Lake, captions: str | None, galleries: str | None, triplets: str | None
) -> tuple[CaptionedImages, Dataset]:  # fmt: skip
    """Captions with the images of their benchmark, where they have one, and the triplets generated for them."""
    written = _triplets(lake, "generate", triplets, captions or galleries)
    pictures = _captions_of(lake, written) if captions is None else _given(lake, "captions", captions)
    _require_same_captions(lake, written, pictures)
    drawn = _gallery_of(lake, pictures) if galleries is None else _given(lake, "galleries", galleries)
    if drawn is not None:
        _require_same_captions(lake, written, drawn)
    return CaptionedImages(pictures, drawn), written


def for_fitted(lake: Lake, encoder: str | None, captions: Dataset) -> str:
    """The key of an encoder, by default the newest that was fitted to these captions."""
    if encoder is None:
        return _newest(lake, "encoders", "fit", _made_from(lake, captions.key)).key
    return _given(lake, "encoders", encoder).key


def for_train(
    lake: Lake, triplets: str | None, images: str | None, texts: str | None, gallery: str | None
) -> tuple[Dataset, Embeddings]:  # fmt: skip
    """Generated triplets, and the vectors of their texts and images, and of their benchmark's, by one encoder."""
    of_texts = _texts(lake, triplets, images or gallery) if texts is None else _given(lake, "embeddings", texts)
    learned_from = ancestor(lake, of_texts, "triplets") if triplets is None else _given(lake, "triplets", triplets)
    pictures = _captions_of(lake, learned_from)
    drawn = _gallery_of(lake, pictures)
    of_images = _given(lake, "embeddings", images) if images else _vectors(lake, "embed-images", pictures, of_texts)
    of_gallery = _given(lake, "embeddings", gallery) if gallery else None
    if of_gallery is None and drawn is not None:
        of_gallery = _vectors(lake, "embed-gallery", drawn, of_texts)
    for other in (of_texts, of_images, *([of_gallery] if of_gallery else [])):
        _require_same_captions(lake, learned_from, other)
        _require_same_encoder(of_texts, other)
    embedded = ancestor(lake, of_texts, "triplets").name
    if embedded != learned_from.name:
        raise ConfigError(
            f"{of_texts.name} holds the texts of {embedded}, not those of {learned_from.name}: leave one of the two "
            "out, or run scot/embed on these triplets"
        )
    return learned_from, Embeddings(of_images, of_texts, of_gallery)


def for_invert(lake: Lake, captions: str | None, encoder: EmbedConfig | None) -> tuple[Dataset, EmbedConfig]:
    """Captions, and the encoder that their images were embedded with where none is given."""
    if encoder is not None:
        return for_seed(lake, captions), encoder
    images = _newest(lake, "embeddings", "embed-images", _made_from(lake, captions))
    return _captions_of(lake, images), _embedded_with(images)


def for_distill(
    lake: Lake, config: DistillConfig, captions: str | None, encoder: EmbedConfig | None, tokens: str | None
) -> tuple[Dataset, EmbedConfig, Dataset | None]:  # fmt: skip
    """Captions, encoder, and for method searle the pseudo-tokens, of the encoder where one is given."""
    if config.method != "searle":
        return (*for_invert(lake, captions, encoder), None)
    if tokens is None:
        what, of_captions = _made_from(lake, captions)
        spec = None if encoder is None else spec_for(encoder, lake).model_dump(mode="json")
        fits: tuple[str, Fits] = (what, lambda d: of_captions(d) and spec in (None, _encoder(d)))
        words = _newest(lake, "pseudo_tokens", "invert", fits)
    else:
        words = _given(lake, "pseudo_tokens", tokens)
    if captions is not None:
        _require_same_captions(lake, words, _given(lake, "captions", captions))
    return _captions_of(lake, words), encoder or _embedded_with(parents(lake, words)[0]), words


def _embedded_with(images: Dataset) -> EmbedConfig:
    known = {name: images.config[name] for name in EmbedConfig.model_fields if name in images.config}
    return EmbedConfig.model_validate(known)


Fits = Callable[[Dataset], bool]


def _given(lake: Lake, table: str, key: str) -> Dataset:
    dataset = lake.table(table).find(key)
    if dataset is None:
        raise LakeError(f"{table}/{key} is not in the lake {lake.url}")
    return dataset


def _newest(lake: Lake, table: str, stage: str, fits: tuple[str, Fits]) -> Dataset:
    """The newest of a stage that fits. Raises LakeError with what is missing, and which stage makes it."""
    what, fit = fits
    for dataset in reversed(lake.table(table).matching(stage=stage)):
        if _holds(fit, dataset):
            return dataset
    run = f"scot/{stage.partition('-')[0]}"
    raise LakeError(f"{lake.url} holds no {table} of stage {stage}{what}: run {run} on them, or give another key")


def _holds(fit: Fits, dataset: Dataset) -> bool:
    try:
        return fit(dataset)
    except LakeError:  # what it was made from was removed, or is damaged: nobody can say that it fits
        return False


def _made_from(lake: Lake, key: str | None) -> tuple[str, Fits]:
    """Fits what was made from captions of this key; everything where there is none."""
    if key is None:
        return "", lambda _: True
    return f" from captions/{key}", lambda dataset: _origin(lake, dataset) == key


def _triplets(lake: Lake, stage: str, key: str | None, captions: str | None) -> Dataset:
    return (
        _newest(lake, "triplets", stage, _made_from(lake, captions)) if key is None else _given(lake, "triplets", key)
    )


def _texts(lake: Lake, triplets: str | None, like: str | None) -> Dataset:
    """The newest vectors of texts: of these triplets, else those that go with other vectors, else of any."""
    if triplets is not None:
        fits: tuple[str, Fits] = (f" of triplets/{triplets}", lambda d: ancestor(lake, d, "triplets").key == triplets)
    elif like is not None:
        other = _given(lake, "embeddings", like)
        key = _origin(lake, other)
        fits = (f" like {other.name}", lambda d: _origin(lake, d) == key and _encoder(d) == _encoder(other))
    else:
        fits = _made_from(lake, None)
    return _newest(lake, "embeddings", "embed-texts", fits)


def _vectors(lake: Lake, stage: str, of: Dataset, like: Dataset) -> Dataset:
    """The newest vectors of one dataset's images, by the encoder of other vectors."""
    wanted, encoder = of.name, _encoder(like)
    return _newest(
        lake, "embeddings", stage,
        (f" of {wanted} by the encoder of {like.name}",
         lambda d: parents(lake, d)[0].name == wanted and _encoder(d) == encoder),
    )  # fmt: skip


def _origin(lake: Lake, dataset: Dataset) -> str:
    """The key of the captions that a dataset comes from; a benchmark's images are drawn with them, under their key."""
    near = {relative.table: relative for relative in (*parents(lake, dataset), dataset)}
    return (near.get("captions") or near.get("galleries") or ancestor(lake, dataset, "captions")).key


def _captions_of(lake: Lake, dataset: Dataset) -> Dataset:
    return _given(lake, "captions", _origin(lake, dataset))


def _gallery_of(lake: Lake, captions: Dataset) -> Dataset | None:
    return lake.table("galleries").find(captions.key)


def _encoder(vectors: Dataset) -> object:
    return vectors.config["spec"]


def _require_same_captions(lake: Lake, one: Dataset, other: Dataset) -> None:
    """Raises ConfigError naming both, and what each comes from."""
    first, second = _origin(lake, one), _origin(lake, other)
    if first != second:
        of_other = "" if other.name == f"captions/{second}" else f" comes from captions/{second}"
        raise ConfigError(
            f"{one.name} comes from captions/{first}, but {other.name}{of_other or ' is given'}: generations do not "
            "mix. Give inputs of one generation, or only one input: the others are found by it"
        )


def _require_same_encoder(one: Dataset, other: Dataset) -> None:
    if _encoder(one) != _encoder(other):
        raise ConfigError(f"{one.name} and {other.name} are vectors of different encoders: embed both with one encoder")
