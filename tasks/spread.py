"""The shards of a step on other machines: Ray actors, each of which holds the step and its model.

Ray is told nothing but which shard: parts go from the actor into the lake, and the commit is this process's, as it is
without Ray. So an actor that is lost costs the shard it was at, which another one does again.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from scot_core.config.settings import settings
from scot_core.errors import ConfigError, ScotError
from scot_core.stages.progress import Stopped
from scot_core.stages.step import Tick, Work

logger = logging.getLogger(__name__)

START_LIMIT_S = 300.0  # for the first actor of a step; others join when there is room for them
END_LIMIT_S = 10.0
WITH_MODELS = ("generate", "embed")  # stages whose actors take a GPU each, where there are any


class Hands(Protocol):
    """What does a step's shards, at most `parallel` at once."""

    @property
    def parallel(self) -> int: ...

    def run(self, shard: int, tick: Tick) -> bool:
        """Do one shard unless it is done already. Returns True where work was done."""
        ...


@contextmanager
def hands_of(step: Work) -> Iterator[Hands]:
    """Actors where SCOT_RAY names a cluster and the step can be spread, else this process."""
    if not (settings().ray and step.spreads):
        yield step
        return
    actors = Actors(step)
    try:
        yield actors
    finally:
        actors.close()


class Actors:
    """A pool of actors. `run` may be called from several threads."""

    def __init__(self, step: Work) -> None:
        """Ask for as many actors as the cluster could hold, and the step has shards. Raises ConfigError as `connected`
        does, and ScotError where no node has what an actor needs.
        """
        ray = connected(settings().ray)
        self._step, self._rows = step, step.shards()
        gpus, self.parallel = _room(step, ray.cluster_resources(), len(self._rows))
        hand = ray.remote(_Hand).options(num_cpus=1, num_gpus=gpus, max_restarts=0, scheduling_strategy="SPREAD")
        copy = ray.put(step)
        made = [hand.remote(copy) for _ in range(self.parallel)]
        self._starting = {actor.ready.remote(): actor for actor in made}
        self._free: list[Any] = []
        self._busy: list[Any] = []
        self._closed = False
        self._last: BaseException | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._await_starts, name="ray actors", daemon=True).start()

    def run(self, shard: int, tick: Tick) -> bool:
        """One shard, by another actor where one is lost. Raises what the step raised, and ScotError where none is left.

        Progress is told when the shard is done.
        """
        import ray
        from ray.exceptions import RayActorError, RayTaskError

        while True:
            actor = self._take()
            try:
                worked, seconds = ray.get(actor.run.remote(shard))
            except RayActorError as error:
                self._lose(actor, error)
                continue
            except RayTaskError as error:
                raise error.cause from None
            finally:
                self._give_back(actor)
            self._step.add_seconds(seconds)
            tick(self._rows[shard])
            return bool(worked)

    def close(self) -> None:
        """End the actors; those that are free give back first what they hold. Threads that wait for one are woken."""
        import ray

        with self._changed:
            self._closed = True
            made = [*self._free, *self._busy, *self._starting.values()]
            ends = [actor.end.remote() for actor in self._free]
            self._changed.notify_all()
        if ends:
            ray.wait(ends, num_returns=len(ends), timeout=END_LIMIT_S)
        for actor in made:
            with suppress(Exception):  # it is lost already
                ray.kill(actor)

    def _take(self) -> Any:
        with self._changed:
            while not self._free:
                if self._closed:
                    raise Stopped("another shard failed, or the run was stopped")
                if not self._busy and not self._starting:
                    raise self._nobody(f"is left ({self._last}). See `ray status` and the nodes' memory, then")
                if not self._changed.wait(START_LIMIT_S) and not self._busy and not self._free:
                    raise self._nobody(f"started within {START_LIMIT_S:g} s: the cluster is busy (`ray status`), or "
                                       "Scot cannot be imported on its nodes; then")  # fmt: skip
            actor = self._free.pop()
            self._busy.append(actor)
            return actor

    def _nobody(self, why: str) -> ScotError:
        return ScotError(f"{self._step.name}: no Ray actor {why} run again: finished shards are kept")

    def _give_back(self, actor: Any) -> None:
        with self._changed:
            if actor in self._busy:
                self._busy.remove(actor)
                self._free.append(actor)
                self._changed.notify_all()

    def _lose(self, actor: Any, error: BaseException) -> None:
        import ray

        with self._changed:
            self._busy.remove(actor)
            self._last = error
            left = len(self._free) + len(self._busy) + len(self._starting)
            self._changed.notify_all()
            if not self._closed:
                logger.warning("%s: a Ray actor is lost, %d are left; its shard is done again", self._step.name, left)
        with suppress(Exception):  # where it only cannot be reached, it must not go on
            ray.kill(actor)

    def _await_starts(self) -> None:
        import ray

        waiting = list(self._starting)
        while waiting and not self._closed:
            done, waiting = ray.wait(waiting, num_returns=1, timeout=1)
            for reference in done:
                failure: BaseException | None = None
                try:
                    ray.get(reference)
                except Exception as error:
                    failure = error
                with self._changed:
                    actor = self._starting.pop(reference)
                    if failure is None:
                        self._free.append(actor)
                    else:
                        self._last = failure
                    self._changed.notify_all()


class _Hand:
    """In an actor: a step that does what it is told."""

    def __init__(self, step: Work) -> None:
        self._step = step

    def ready(self) -> None:
        """Answers once the actor has started."""

    def run(self, shard: int) -> tuple[bool, float]:
        """Whether there was work to do, and how many seconds it took."""
        before = self._step.seconds
        worked = self._step.run(shard, lambda _: None)
        return worked, self._step.seconds - before

    def end(self) -> None:
        self._step.__exit__(None, None, None)


def connected(address: str) -> Any:
    """Ray, with this process connected to a cluster. Raises ConfigError where it is not installed or not reached."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ConfigError("SCOT_RAY is set, but Ray is not installed: pip install -e '.[ray]'") from error
    if not ray.is_initialized():
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            raise ConfigError(
                f"no Ray cluster can be used at SCOT_RAY={address} ({str(error).splitlines()[0]}): is `ray start` "
                "done there, is its token here (~/.ray/auth_token), and its version the same?"
            ) from error
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, on_sigterm)  # Ray takes it, and Prefect cancels runs by it
    return ray


def _room(step: Work, there: Mapping[str, float], shards: int) -> tuple[float, int]:
    """GPUs of each actor, and how many actors."""
    gpus = settings().ray_gpus.get(step.stage, float(step.stage in WITH_MODELS and there.get("GPU", 0) >= 1))
    actors = int(min(there.get("CPU", 0), there.get("GPU", 0) / gpus if gpus else float("inf")))
    if not actors:
        raise ScotError(f"{step.name}: no actor with 1 CPU and {gpus:g} GPUs fits into the Ray cluster, which has "
                        f"{there.get('CPU', 0):g} and {there.get('GPU', 0):g}; see SCOT_RAY_GPUS")  # fmt: skip
    return gpus, min(actors, shards)
