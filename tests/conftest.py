"""Small lakes and rows that the tests of the core share."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, settings

from scot_core.garbage import leave, look_seldom
from scot_core.lake import Dataset, Identity, Lake
from scot_core.lake.fingerprint import fingerprint

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

gc.disable()  # until all tests are imported

# A shell without job control starts background jobs with SIGINT ignored, which they hand down to every process they
# start: without this, whoever runs the tests with `&` sees Ctrl-C do nothing.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# On a machine that others use, too, an example may take any time.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# Of `make mutation`: the same examples for every change, and none made smaller once the change is caught.
settings.register_profile(
    "mutation", settings.get_profile("patient"), derandomize=True, database=None,
    phases=[Phase.explicit, Phase.generate],
)  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def _cache_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Vectors of folders are kept where the tests' are, not in the home of whoever runs them."""
    os.environ["SCOT_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(params=["local", "memory"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lake]:
    """An empty lake on the local disk, and one on an object store."""
    if request.param == "local":
        yield Lake(tmp_path / "lake")
        return
    place = Lake(f"memory://{uuid.uuid4().hex}")
    yield place
    place.storage.remove("")


@pytest.fixture
def local_lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture(scope="session")
def triplets() -> Callable[..., dict[str, Any]]:
    """Columns of `triplets`, numbered from `first`."""

    def make(count: int, first: int = 0, source: str = "shop") -> dict[str, Any]:
        numbers = range(first, first + count)
        return {
            "pair_id": [f"{number:032x}" for number in numbers],
            "source": [source] * count,
            "image_id": [f"image-{number}" for number in numbers],
            "kind": ["seed"] * count,
            "caption": [f"a red mug, number {number}" for number in numbers],
            "modification": ["make it blue"] * count,
            "modified_caption": [f"a blue mug, number {number}" for number in numbers],
            "model": ["teacher"] * count,
        }

    return make


@pytest.fixture(scope="session")
def identify() -> Callable[..., Identity]:
    """An identity; another `version` is another configuration."""

    def make(table: str = "triplets", version: int = 1, *, source: str = "shop", stage: str = "seed") -> Identity:
        config = {"version": version}
        return Identity(table, source, stage, fingerprint(stage, 1, config, [source, table]), config)

    return make


@pytest.fixture(scope="session")
def commit() -> Callable[..., Dataset]:
    """Write parts and commit them."""

    def make(lake: Lake, identity: Identity, *parts: Mapping[str, Sequence[Any]], rejected: int = 0) -> Dataset:
        draft = lake.draft(identity)
        rows = sum(draft.write_part(index, part) for index, part in enumerate(parts))
        return draft.commit(len(parts), rows_in=rows + rejected, rejected=rejected)

    return make


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for servers and whole runs comes first, so that on several cores none of it is begun at the end."""
    items.sort(key=lambda item: "flows" not in item.path.parts)


def pytest_collection_finish(session: pytest.Session) -> None:
    """What was imported is no garbage: whoever looks for some, as models do before they load, need not look there."""
    gc.freeze()
    look_seldom()
    gc.enable()
    if {"PYTEST_XDIST_WORKER", "PRETENDED_BF16"} & os.environ.keys():  # a process that runs tests and nothing else
        atexit.register(_leave, session)
    else:
        atexit.register(gc.unfreeze)  # nanobind calls a leak what is there at the very end


def _leave(session: pytest.Session) -> None:
    """What was imported takes two seconds to be taken down."""
    atexit.unregister(_leave)
    leave(int(session.exitstatus))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """On several cores a file goes to one of them, and those that share the service to the same one, in their order.

    (Marks of groups, which would say the same, are lost: xdist 3.8 renames tests in a way that pytest 9.2 ignores.)
    """
    from xdist.scheduler import LoadScopeScheduling

    def scope(nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "served" if "served: Served" in (config.rootpath / file).read_text() else file

    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = scope
    return scheduler
