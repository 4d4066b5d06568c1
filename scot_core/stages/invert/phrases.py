"""Phrases about each concept of a vocabulary, which L_gpt compares pseudo-tokens with.

The paper has GPT-Neo 2.7B continue "a photo of {concept} that": 256 times a concept, at temperature 0.5, at most 35
tokens with the prompt, without a bigram twice. Here any causal model writes, or a server, or captions stand in.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from scot_core.config import PhrasesConfig
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.schema import text_id
from scot_core.llm import Reply
from scot_core.llm.local.devices import devices
from scot_core.llm.local.weights import weights_revision
from scot_core.llm.local.writers import Job, Weights, Writers
from scot_core.llm.plain import plain
from scot_core.llm.remote.chat import Sampling, TextRequest
from scot_core.stages.invert.vocabulary import Vocabulary
from scot_core.stages.replies.ask import ask_and_keep, key_or
from scot_core.stages.step import Step, Tick, identities, shard_sizes

if TYPE_CHECKING:  # loads torch
    from scot_core.searle import Phrase

VERSION = 1
REPLIES_A_SHARD: Final = 4096
CAPTIONS = "captions"


class WritePhrases(Step):
    """Rows of `phrases`, a shard for some concepts. A reply that is no phrase is a reject."""

    stage, unit = "invert", "phrases"

    def __init__(
        self, lake: Lake, config: PhrasesConfig, vocabulary: Vocabulary, captions: Dataset,
        api_key: SecretStr | None = None,
    ) -> None:  # fmt: skip
        super().__init__(lake)
        self.config, self._vocabulary, self._captions, self._key = config, vocabulary, captions, api_key
        self.name = f"phrases of {len(vocabulary.names):,} concepts"
        self._held = ExitStack()
        self._writers: Writers | None = None
        self._from_captions = config.writer == CAPTIONS
        if not (self._from_captions or config.is_remote):
            self.parallel = len(devices())

    @property
    def outputs(self) -> Mapping[str, Identity]:
        config = {**self.config.identity(), "vocabulary": self._vocabulary.digest}
        if not (self._from_captions or self.config.is_remote):
            config["weights"] = weights_revision(self.config.base, self.config.revision)
        # What was not taken from captions is the same for all of them.
        of_captions = self._from_captions or self._vocabulary.of_captions
        return identities(
            "rejects", "phrases", source=self._captions.source, label="invert-phrases", sealed_as="invert-phrases",
            version=VERSION, config=config, inputs=[self._captions] if of_captions else [],
        )  # fmt: skip

    def shards(self) -> Sequence[int]:
        return [sum(len(self._wanted(name)) for name in names) for names in self._concepts]

    def work(self, shard: int, tick: Tick) -> None:
        asked = [(name, number) for name in self._concepts[shard] for number in self._wanted(name)]
        if self._from_captions:
            kept = [(name, str(number)) for name, number in asked]
            refused: list[tuple[str, str, str, str]] = []
            tick(len(kept))
        else:
            kept, refused = _read(asked, self._write(shard, asked, tick), whole=self.config.lines == "all")
        source = self.outputs["phrases"].source
        self.drafts["rejects"].write_part(
            shard,
            {
                "pair_id": [row[0] for row in refused],
                "source": [source] * len(refused),
                "stage": ["invert"] * len(refused),
                "reason": [row[2] for row in refused],
                "raw": [row[3] for row in refused],
                "tries": [1] * len(refused),
            },
        )
        self.drafts["phrases"].write_part(
            shard,
            {
                "source": [source] * len(kept),
                "concept": [concept for concept, _ in kept],
                "phrase": [phrase for _, phrase in kept],
                "model": [self._model] * len(kept),
            },
        )

    @cached_property
    def _concepts(self) -> list[tuple[str, ...]]:
        names, each = self._vocabulary.names, max(1, REPLIES_A_SHARD // self.config.count)
        starts = range(0, len(names), each)
        assert len(starts) == len(shard_sizes(len(names), each))
        return [names[start : start + each] for start in starts]

    def _wanted(self, concept: str) -> Sequence[Any]:
        """Numbers of the phrases to write, or the phrases themselves where captions give them."""
        return self._named_by[concept] if self._from_captions else range(self.config.count)

    @cached_property
    def _named_by(self) -> Mapping[str, Sequence[str]]:
        """Captions that hold each concept as a word, `count` of them at most, drawn."""
        from scot_core.searle.sentences import phrases_of

        texts = list(dict.fromkeys(self._captions.read(["caption"])["caption"].to_pylist()))
        random.Random(self.config.seed).shuffle(texts)
        holding: defaultdict[str, list[str]] = defaultdict(list)
        lower = [(text, text.lower()) for text in texts]
        for name in self._vocabulary.names:
            for text, low in lower:
                if len(holding[name]) == self.config.count:
                    break
                if name.lower() in low and phrases_of({name: [text]}):
                    holding[name].append(text)
        return holding

    @property
    def _model(self) -> str:
        config = self.config
        return CAPTIONS if self._from_captions else config.endpoint.model if config.is_remote else config.base

    def _write(self, shard: int, asked: Sequence[tuple[str, int]], tick: Tick) -> list[Reply]:
        from scot_core.searle.sentences import phrase_prompt

        config = self.config
        prompts = [phrase_prompt(name) for name, _ in asked]
        seeds = [_seed(config.seed, name, number) for name, number in asked]
        if not config.is_remote:
            job = Job(
                prompts, seeds, temperature=config.temperature, max_new_tokens=config.max_new_tokens,
                batch_size=config.batch_size, repeat_bigrams=False,
            )  # fmt: skip
            return [plain(reply) for reply in self._open().write(job, tick)]
        ids = [text_id(f"{name}/{number}") for name, number in asked]
        stop = () if config.lines == "all" else ("\n",)
        requests = [
            TextRequest(i, prompt, Sampling(config.temperature, config.max_new_tokens, seed), stop)
            for i, prompt, seed in zip(ids, prompts, seeds, strict=True)
        ]
        records = ask_and_keep(self.drafts["phrases"], shard, config.endpoint, key_or(self._key), requests, tick)
        return [Reply(records[i]["text"], records[i]["finish_reason"], 0, 0) for i in ids]

    def _open(self) -> Writers:
        with self._lock:
            if self._writers is None:
                weights = Weights(self.config.base, None, self.config.revision)
                self._writers = self._held.enter_context(Writers(weights, devices()))
            return self._writers

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._held.close()
        self._writers = None


def _read(
    asked: Sequence[tuple[str, int]], replies: Sequence[Reply], *, whole: bool
) -> tuple[list[tuple[str, str]], list[tuple[str, str, str, str]]]:
    """(concept, phrase) of what is one, and (id, concept, reason, raw) of what is not."""
    from scot_core.searle.sentences import clean_phrase, phrase_prompt

    kept, refused = [], []
    for (name, number), reply in zip(asked, replies, strict=True):
        text = reply.text if whole else reply.text.lstrip("\n").partition("\n")[0]
        if reply.finish_reason not in ("stop", "length"):
            reason = reply.finish_reason.removeprefix("error:")
        elif not text.strip():
            reason = "empty"
        else:
            kept.append((name, clean_phrase(phrase_prompt(name) + " " + text.strip())))
            continue
        refused.append((text_id(f"{name}/{number}"), name, reason, reply.text))
    return kept, refused


def _seed(seed: int, concept: str, number: int) -> int:
    """Of one phrase's random numbers: it depends on nothing but these three."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{number}/{concept}".encode(), digest_size=7).digest(), "big")


def phrases_in(dataset: Dataset) -> Mapping[str, Sequence[Phrase]]:
    """The phrases of each concept in a dataset of `phrases`, in the vocabulary's order."""
    from scot_core.searle.sentences import phrases_of

    texts: defaultdict[str, list[str]] = defaultdict(list)
    for part in dataset.read_parts(["concept", "phrase"]):
        for concept, phrase in zip(part["concept"].to_pylist(), part["phrase"].to_pylist(), strict=True):
            texts[concept].append(phrase)
    return phrases_of(texts)
