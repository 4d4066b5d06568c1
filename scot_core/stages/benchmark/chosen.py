"""Which Combiner is measured: one of the lake, or a folder of weights such as a converted CLIP4Cir checkpoint."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scot_core.config import EmbedConfig, validated
from scot_core.encoders.spec import EncoderSpec, require_same
from scot_core.errors import ConfigError, LakeError
from scot_core.lake import Dataset, Lake
from scot_core.lake.fingerprint import digest
from scot_core.lake.lineage import ancestor
from scot_core.lake.promotion import combiners_in_use
from scot_core.stages.embed.vectors import config_of, made_by, spec_for
from scot_core.stages.train import combiners_in

if TYPE_CHECKING:  # loads torch
    from scot_core.combiner import Combiner


@dataclass(frozen=True)
class Chosen:
    """Combiners that are measured as one method: `load` gives them by the name of their run."""

    method: str
    origin: str
    fingerprint: str
    load: Callable[[], Mapping[str, Combiner]]
    dataset: Dataset | None = None


def choose_combiner(lake: Lake, wanted: str | None, encoder: EmbedConfig | None) -> tuple[Chosen | None, EmbedConfig]:
    """A Combiner and the encoder to measure it with.

    Args:
        lake: where trained Combiners are.
        wanted: a key of table `combiners`, or a folder with `model.safetensors` and `config.json`; None takes the
            promoted one or else the newest that was trained on the encoder, and none where the encoder is given and
            there is no such.
        encoder: None takes the encoder that the Combiner was trained on.

    Raises:
        ConfigError: a folder without an encoder, or a Combiner of another encoder.
        LakeError: no such Combiner.
        ModelError: weights, of the Combiner or the encoder, that are not here, damaged or no longer the same.
    """
    if wanted is not None and lake.table("combiners").find(wanted) is None:
        return _from_folder(lake, wanted, encoder)
    known = _newest_last(lake) if wanted is None else [lake.table("combiners").latest(key=wanted)]
    if encoder is None:
        if not known:
            raise LakeError(
                f"{lake.url} holds no Combiner: run `scot run` first, or name an encoder to measure baselines"
            )
        return _of_lake(known[-1]), trained_on(lake, known[-1])
    spec = spec_for(encoder, lake)
    fitting = [dataset for dataset in known if made_by(embeddings_of(lake, dataset)) == spec]
    if fitting:
        return _of_lake(fitting[-1]), encoder
    if wanted is not None:
        made = made_by(embeddings_of(lake, known[0]))
        raise ConfigError(
            f"the Combiner {wanted} was trained on encoder {made.name} ({made.pooling}, {made.precision}), not on "
            f"{spec.name} ({spec.pooling}, {spec.precision}) as it is here: leave --encoder out"
        )
    return None, encoder


def _newest_last(lake: Lake) -> list[Dataset]:
    """Every Combiner, oldest first; one that was promoted is last."""
    known, promoted = lake.table("combiners").matching(), combiners_in_use(lake)
    return known if promoted is None else [*known, promoted]


def embeddings_of(lake: Lake, combiners: Dataset) -> Dataset:
    """The embeddings of images that a dataset of Combiners was trained on. Raises LakeError where they are gone."""
    return ancestor(lake, combiners, "embeddings")


def trained_on(lake: Lake, combiners: Dataset) -> EmbedConfig:
    """The encoder that a dataset of Combiners was trained on, with the very weights.

    Raises ModelError where those are not here, or what is here would give other vectors.
    """
    return config_of(lake, embeddings_of(lake, combiners))


def _of_lake(dataset: Dataset) -> Chosen:
    def load() -> dict[str, Combiner]:
        with tempfile.TemporaryDirectory() as folder:
            return {f"seed-{seed}": combiner for seed, combiner in combiners_in(dataset, Path(folder)).items()}

    return Chosen(str(dataset.config["loss"]), dataset.key, dataset.fingerprint, load, dataset)


def _from_folder(lake: Lake, place: str, encoder: EmbedConfig | None) -> tuple[Chosen, EmbedConfig]:
    from scot_core.combiner import CONFIG_FILE, Combiner

    folder = Path(place).expanduser().absolute()
    if not folder.is_dir():
        raise LakeError(f"{place!r} is neither a key of table `combiners` nor a folder with a Combiner's weights")
    combiner = Combiner.load(folder)
    encoder = encoder or _named_by(lake, combiner, f"what the Combiner in {folder} was trained on")
    if encoder is None:
        raise ConfigError(f"the Combiner in {folder} does not say which encoder it was trained on: name it (--encoder)")
    if combiner.feature_dim != (dim := spec_for(encoder, lake).dim):
        raise ConfigError(
            f"the Combiner in {folder} takes vectors of {combiner.feature_dim}, encoder {encoder.encoder} gives {dim}: "
            "choose the encoder that it was trained on (--encoder)"
        )
    print_ = digest((folder / CONFIG_FILE).read_bytes())  # holds the digest of the weights, which `load` has checked
    return Chosen("combiner", f"{folder.name}-{print_[:12]}", print_, lambda: {folder.name: combiner}), encoder


def _named_by(lake: Lake, combiner: Combiner, what: str) -> EmbedConfig | None:
    """The encoder that the Combiner's own configuration names. Raises ModelError where it is another one here."""
    if combiner.encoder is None:
        return None
    spec = EncoderSpec.model_validate(combiner.encoder)
    usual = EmbedConfig(encoder=spec.name, revision=spec.revision)  # its own vectors may be in the lake already
    if spec_for(usual, lake) == spec:
        return usual
    embed = validated(EmbedConfig, {**usual.identity(), "pooling": spec.pooling, "precision": spec.precision})
    require_same(spec, spec_for(embed, lake), what)
    return embed
