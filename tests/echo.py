"""A language model that says what it is asked, to be loaded in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scot_core.llm import Reply

MIDST_S = 2.0  # it is in the midst of its work so long


@dataclass(frozen=True)
class Echo:
    """In place of `writers.Weights`, and of the generator that these load."""

    def load(self, device: str) -> Echo:
        return self

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], *, progress: Callable[[int], object], **settings: object
    ) -> list[Reply]:
        for number in range(len(prompts)):
            progress(1)
            time.sleep(0 if number else MIDST_S)
        return [Reply(prompt, "stop", 1, 1) for prompt in prompts]
