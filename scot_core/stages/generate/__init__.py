"""Stage generate: triplets for every caption, from the tuned model (§4.2: 290,000), or mined from the captions."""

from __future__ import annotations

import logging

from pydantic import SecretStr

from scot_core.config import GenerateConfig
from scot_core.errors import ConfigError
from scot_core.lake import Dataset, Lake
from scot_core.stages.gates import require_kept
from scot_core.stages.generate.local import Write
from scot_core.stages.generate.mined import MineTriplets
from scot_core.stages.generate.remote import WriteRemotely
from scot_core.stages.replies.read import ReadReplies
from scot_core.stages.step import Run

logger = logging.getLogger(__name__)

OTHERS = "what is trained on them learns nothing of the others. Another writer may do (generate.writer=mined)"


def generate(
    run: Run, lake: Lake, config: GenerateConfig, captions: Dataset, adapters: Dataset | None = None,
    api_key: SecretStr | None = None,
) -> Dataset:  # fmt: skip
    """Returns the generated triplets: a first try for every caption, further ones for rejects, until there are `count`.

    Raises ConfigError where a model is to write and there is no adapter, GateError where too little is kept.
    """
    if config.is_mined:
        mined = run(MineTriplets(lake, config, captions))["triplets"]
        return _kept(lake, mined, config, of=captions.rows)
    if adapters is None:
        raise ConfigError("generate.writer is adapter, but no adapter is given")
    attempts: list[Dataset] = []
    for attempt in range(1, config.attempts + 1):
        if config.is_remote:
            write: Write = WriteRemotely(lake, config, captions, adapters, tuple(attempts), api_key)
        else:
            write = Write(lake, config, captions, adapters, tuple(attempts))
        attempts.append(run(write)["replies"])
        if config.count is None and attempt < config.attempts:
            continue
        read = ReadReplies(lake, "generate", "generated", "lines", captions, attempts, config.filter)
        triplets = _kept(lake, run(read)["triplets"], config)
        if triplets.rows >= (config.count or 0):
            return triplets
    logger.warning("generate.count is %d, and %d captions have a triplet", config.count, triplets.rows)
    return triplets


def _kept(lake: Lake, triplets: Dataset, config: GenerateConfig, of: int | None = None) -> Dataset:
    floor, setting = config.min_kept, "generate.min_kept"
    return require_kept(lake, triplets, floor, setting, what="captions", advice=OTHERS, of=of)
