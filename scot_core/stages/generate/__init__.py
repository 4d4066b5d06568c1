"""Stage generate: triplets for every caption, from the tuned model (§4.2: 290,000), or mined from the captions."""

from __future__ import annotations

import logging

from pydantic import SecretStr

from scot_core.config import GenerateConfig, TripletKind
from scot_core.errors import ConfigError
from scot_core.lake import Dataset, Lake
from scot_core.lake.lineage import ancestor
from scot_core.stages.gates import require_kept
from scot_core.stages.generate.joined import joined
from scot_core.stages.generate.mined import MineTriplets
from scot_core.stages.generate.remote import write_by
from scot_core.stages.step import Run

logger = logging.getLogger(__name__)

OTHERS = "what is trained on them learns nothing of the others. Another writer may do (generate.writer=mined)"


def generate(
    run: Run, lake: Lake, config: GenerateConfig, captions: Dataset, adapters: Dataset | None = None,
    api_key: SecretStr | None = None,
) -> Dataset:  # fmt: skip
    """Returns the triplets of `config.sources`; of generated ones a first try for every caption, more for rejects,
    until there are `config.count`.

    Raises ConfigError where a model is to write and there is no adapter, GateError where too little is kept.
    """

    def of(kind: TripletKind) -> Dataset:
        if config.is_mined or kind == "mined":
            return _kept(lake, run(MineTriplets(lake, config.mined, captions))["triplets"], config, of=captions.rows)
        if adapters is None and config.needs_adapter:
            raise ConfigError("generate.writer is adapter, but no adapter is given")
        if kind == "seed":
            if adapters is None:
                raise ConfigError("generate.sources names seed, and generate.writer=endpoint asks for no seeds")
            return ancestor(lake, adapters, "triplets")
        return _written(run, lake, config, captions, adapters, api_key)

    return joined(run, lake, [of(kind) for kind in config.sources])


def _written(
    run: Run, lake: Lake, config: GenerateConfig, captions: Dataset, adapters: Dataset | None,
    api_key: SecretStr | None,
) -> Dataset:  # fmt: skip
    attempts: list[Dataset] = []
    for attempt in range(1, config.attempts + 1):
        write = write_by(lake, config, captions, adapters, tuple(attempts), api_key)
        attempts.append(run(write)["replies"])
        if config.count is None and attempt < config.attempts:
            continue
        triplets = _kept(lake, run(write.reading(attempts))["triplets"], config)
        if triplets.rows >= (config.count or 0):
            return triplets
    logger.warning("generate.count is %d, and %d captions have a triplet", config.count, triplets.rows)
    return triplets


def _kept(lake: Lake, triplets: Dataset, config: GenerateConfig, of: int | None = None) -> Dataset:
    return require_kept(lake, triplets, config.min_kept, "generate.min_kept", what="captions", advice=OTHERS, of=of)
