"""Which Combiner is measured: one of the lake, or a folder of weights such as a converted CLIP4Cir checkpoint."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from scot_core.combiner import Combiner
from scot_core.config import EmbedConfig, validated
from scot_core.errors import ConfigError, LakeError
from scot_core.fingerprint import digest
from scot_core.lake import Dataset, Lake
from scot_core.stages.train import combiners_in


@dataclass(frozen=True)
class Chosen:
    """Combiners that are measured as one method: `load` gives them by the name of their run."""

    method: str
    origin: str
    fingerprint: str
    feature_dim: int
    load: Callable[[], Mapping[str, Combiner]]
    dataset: Dataset | None = None


def choose_combiner(lake: Lake, wanted: str | None, encoder: EmbedConfig | None) -> tuple[Chosen | None, EmbedConfig]:
    """A Combiner and the encoder to measure it with.

    Args:
        lake: where trained Combiners are.
        wanted: a key of table `combiners`, or a folder with `model.safetensors` and `config.json`; None takes the
            newest that was trained on the encoder, and none where the encoder is given and there is no such.
        encoder: None takes the encoder that the Combiner was trained on.

    Raises:
        ConfigError: a folder without an encoder, or a Combiner of another encoder.
        LakeError: no such Combiner.
    """
    if wanted is not None and lake.table("combiners").find(wanted) is None:
        return _from_folder(wanted, encoder)
    known = lake.table("combiners").datasets() if wanted is None else [lake.table("combiners").latest(key=wanted)]
    trained = [(dataset, trained_on(lake, dataset)) for dataset in known]
    fitting = [pair for pair in trained if encoder is None or _vectors_of(pair[1]) == _vectors_of(encoder)]
    if fitting:
        dataset, used = fitting[-1]
        return _of_lake(dataset), encoder or used
    if wanted is not None:
        raise ConfigError(f"the Combiner {wanted} was trained on encoder {trained[0][1].encoder}: leave --encoder out")
    if encoder is None:
        raise LakeError(f"{lake.url} holds no Combiner: run `scot run` first, or name an encoder to measure baselines")
    return None, encoder


def _vectors_of(config: EmbedConfig) -> dict[str, object]:
    """What decides which vectors come out; how they are cut into shards does not."""
    return {name: value for name, value in config.identity().items() if name != "shard_rows"}


def trained_on(lake: Lake, combiners: Dataset) -> EmbedConfig:
    """The encoder of the embeddings that a dataset of Combiners was trained on."""
    key = next(name.split("/")[1] for name in combiners.manifest["inputs"] if name.startswith("embeddings/"))
    config = lake.table("embeddings").latest(key=key).manifest["config"]
    return validated(EmbedConfig, {name: config[name] for name in EmbedConfig().identity() if name in config})


def _of_lake(dataset: Dataset) -> Chosen:
    def load() -> dict[str, Combiner]:
        with tempfile.TemporaryDirectory() as folder:
            return {f"seed-{seed}": combiner for seed, combiner in combiners_in(dataset, Path(folder)).items()}

    feature_dim = next(iter(load().values())).feature_dim
    method = str(dataset.manifest["config"]["loss"])
    return Chosen(method, dataset.key, dataset.fingerprint, feature_dim, load, dataset)


def _from_folder(place: str, encoder: EmbedConfig | None) -> tuple[Chosen, EmbedConfig]:
    folder = Path(place).expanduser()
    if not folder.is_dir():
        raise LakeError(f"{place!r} is neither a key of table `combiners` nor a folder with a Combiner's weights")
    if encoder is None:
        raise ConfigError(f"the Combiner in {folder} does not say which encoder it was trained on: name it (--encoder)")
    combiner = Combiner.load(folder)
    content = b"".join(path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file())
    print_ = digest(content)
    origin = f"{folder.name}-{print_[:12]}"
    return Chosen("combiner", origin, print_, combiner.feature_dim, lambda: {folder.name: combiner}), encoder
