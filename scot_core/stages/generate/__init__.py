"""Stage generate: a triplet for every caption, from the tuned model (§4.2: 290,000)."""

from __future__ import annotations

from pydantic import SecretStr

from scot_core.config import GenerateConfig
from scot_core.lake import Dataset, Lake
from scot_core.stages.generate.local import Write
from scot_core.stages.generate.remote import WriteRemotely
from scot_core.stages.replies.read import ReadReplies
from scot_core.stages.step import Run


def generate(
    run: Run, lake: Lake, config: GenerateConfig, captions: Dataset, adapters: Dataset,
    api_key: SecretStr | None = None,
) -> Dataset:  # fmt: skip
    """Returns the generated triplets: a first try for every caption, further ones for rejects."""
    attempts: list[Dataset] = []
    for _ in range(config.attempts):
        if config.is_remote:
            write: Write = WriteRemotely(lake, config, captions, adapters, tuple(attempts), api_key)
        else:
            write = Write(lake, config, captions, adapters, tuple(attempts))
        attempts.append(run(write)["replies"])
    return run(ReadReplies(lake, "generate", "generated", "lines", captions, attempts))["triplets"]
