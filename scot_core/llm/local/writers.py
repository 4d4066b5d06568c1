"""One writer a device, and whoever has prompts takes one that is free.

On one device the model lives in this process. On several it lives in a process for each: a decoding step is thousands
of small kernels started from Python, and within one process the devices would wait for one another's turn.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import LifoQueue
from typing import Any, Self

from scot_core.errors import ModelError, ScotError
from scot_core.garbage import look_seldom
from scot_core.llm import Reply
from scot_core.orphans import leave_with_parent, starting_children

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """What `local.Generator.generate` is asked."""

    prompts: Sequence[str]
    seeds: Sequence[int]
    temperature: float
    max_new_tokens: int
    batch_size: int
    repeat_bigrams: bool = True

    def answer(self, generator: Any, progress: Callable[[int], object]) -> list[Reply]:
        replies: list[Reply] = generator.generate(
            self.prompts, self.seeds, temperature=self.temperature, max_new_tokens=self.max_new_tokens,
            batch_size=self.batch_size, repeat_bigrams=self.repeat_bigrams, progress=progress,
        )  # fmt: skip
        return replies


@dataclass(frozen=True, slots=True)
class Weights:
    """What `local.Generator.load` is given. The adapter's folder must outlive the writers."""

    base: str
    adapter: Path | None = None
    revision: str | None = None

    def load(self, device: str) -> Any:
        from scot_core.llm.local.generator import Generator

        return Generator.load(self.base, self.adapter, revision=self.revision, device=device)


class Writers:
    """As many writers as devices, each loaded when it is first needed. `write` may be called from several threads."""

    def __init__(self, weights: Weights, devices: Sequence[str]) -> None:
        """Load nothing yet; "cpu" may be named more than once."""
        apart = len(devices) > 1
        self._all = [_Apart(weights, d) if apart else _Here(weights, d) for d in devices]
        # Last in, first out: one caller alone keeps to one device.
        self._idle: LifoQueue[_Here | _Apart] = LifoQueue()
        for writer in reversed(self._all):
            self._idle.put(writer)

    def write(self, job: Job, progress: Callable[[int], object]) -> list[Reply]:
        """Wait for a writer and have it do the job; `progress` is called in this thread.

        Raises:
            ModelError: as `local.Generator`, or the writer's process ended.
            ConfigError: as `local.Generator.load`.
        """
        writer = self._idle.get()
        try:
            return writer.write(job, progress)
        finally:
            self._idle.put(writer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let the models go and end the processes, whatever they are at."""
        for writer in self._all:
            writer.close()


class _Here:
    """A writer in this process."""

    def __init__(self, weights: Weights, device: str) -> None:
        self._weights, self._device = weights, device
        self._generator: Any = None

    def write(self, job: Job, progress: Callable[[int], object]) -> list[Reply]:
        if self._generator is None:
            self._generator = self._weights.load(self._device)
        return job.answer(self._generator, progress)

    def close(self) -> None:
        if self._generator is not None:
            self._generator.close()
        self._generator = None


class _Apart:
    """A writer in a process of its own, which ends with this one however that ends."""

    def __init__(self, weights: Weights, device: str) -> None:
        self._weights, self._device = weights, device
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def write(self, job: Job, progress: Callable[[int], object]) -> list[Reply]:
        try:
            return self._answer(self._pipe or self._start(), job, progress)
        except (EOFError, OSError) as error:
            code = None if self._process is None else self._process.exitcode
            raise ModelError(
                f"the process that writes on {self._device} ended (exit code {code}); run again, "
                "finished shards are kept"
            ) from error

    def _answer(self, pipe: Connection, job: Job, progress: Callable[[int], object]) -> list[Reply]:
        whole = False
        try:
            pipe.send(job)
            while isinstance(message := pipe.recv(), int):
                progress(message)
            whole = True
        finally:
            if not whole:  # what is still in the pipe would be taken for the answer to the next job
                self._end()
        if isinstance(message, Exception):
            raise message
        replies: list[Reply] = message
        return replies

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")  # a fork would share a CUDA context, which cannot be shared
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._weights, self._device), name=f"scot-{self._device}", daemon=True
        )
        with starting_children():
            self._process.start()
        theirs.close()  # the last copy is the process's own, so that its end is an end of file here
        return self._pipe

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._pipe = None

    def close(self) -> None:
        self._end()


def _serve(pipe: Connection, weights: Weights, device: str) -> None:
    """Answer jobs until the pipe breaks: with numbers of rows while at it, then with replies or an error."""
    leave_with_parent()
    look_seldom()
    if device.startswith("cuda"):
        import torch

        torch.cuda.set_device(device)
    writer = _Here(weights, device)
    with suppress(EOFError, ConnectionError):  # nobody is left to answer to
        while True:
            job = pipe.recv()
            answer: list[Reply] | ScotError
            try:
                answer = writer.write(job, pipe.send)
            except ScotError as error:
                answer = error
            except ConnectionError:
                raise
            except Exception as error:
                logger.exception("writing on %s failed", device)
                answer = ModelError(f"writing on {device} failed: {type(error).__name__}: {error}")
            pipe.send(answer)
