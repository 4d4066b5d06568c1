"""What a storage does to a lake: full, read-only, truncated, flipped, swapped, deleted, raced. Each is said, nothing is
lost, and one more run ends with the same parts. (A clock that is set back: test_lake.py. Object stores: test_s3.py.)
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scot_core.errors import LakeError
from scot_core.lake import Lake
from scot_core.lake.check import check
from scot_core.lake.repair import repair
from scot_core.stages.step import Tick
from tests.core.test_lake import Number
from tests.running import run_here

Fault = Callable[[Path], None]  # is given the folder of the lake


class Disturbed(Number):
    """Something happens before the fifth shard."""

    def __init__(self, lake: Lake, fault: Fault) -> None:
        super().__init__(lake)
        self._fault = fault

    def work(self, shard: int, tick: Tick) -> None:
        if shard == 4:
            self._fault(Path(self.lake.url))
        super().work(shard, tick)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(lake: Path) -> None:
    with contextlib.suppress(OSError), (lake.parent / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def _remount(how: str) -> Fault:
    def fault(lake: Path) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(lake.parent)], check=True)

    return fault


def _part(lake: Path, number: int = 1) -> Path:
    return next(lake.glob(f"triplets/*/part-{number:05d}.parquet"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


def swap(path: Path) -> None:
    """With a file of another dataset."""
    other = next(path.parents[2].glob(f"rejects/*/{path.name}"))
    one, two = path.read_bytes(), other.read_bytes()
    path.write_bytes(two)
    other.write_bytes(one)


def exchange(path: Path) -> None:
    """With another part of the same dataset."""
    other, aside = path.with_name("part-00002.parquet"), path.with_name("aside")
    path.rename(aside)
    other.rename(path)
    aside.rename(other)


def race(lake: Path) -> None:
    """Another run does all of it."""
    run_here(Number(Lake(lake)))


def as_it_was_written(tmp_path: Path) -> dict[str, list[str]]:
    return digests(Lake(run_and_return(tmp_path / "undisturbed")))


def run_and_return(folder: Path) -> Path:
    run_here(Number(Lake(folder)))
    return folder


def digests(lake: Lake) -> dict[str, list[str]]:
    assert check(lake, everything=True).damages == ()
    return {dataset.name: [part.digest for part in dataset.parts] for dataset in lake.datasets()}


@pytest.mark.parametrize(
    ("fault", "mend", "said"),
    [(fill, lambda lake: (lake.parent / "ballast").unlink(), "No space left on device"),
     (_remount("ro"), _remount("rw"), "Read-only file system")],
    ids=["full", "read-only"],
)  # fmt: skip
def test_a_disk_that_takes_no_more(fault: Fault, mend: Fault, said: str, disk: Path, tmp_path: Path) -> None:
    lake = disk / "lake"
    with pytest.raises(LakeError, match=rf"cannot write {lake}.*{said}.*free space") as raised:
        run_here(Disturbed(Lake(lake), fault))
    assert "SCOT_LAKE" in str(raised.value)
    assert Lake(lake).datasets() == [] and not list(lake.glob("*/*/*.tmp"))
    mend(lake)
    again = Number(Lake(lake))
    run_here(again)
    assert again.worked == [4, 5, 6]
    assert digests(Lake(lake)) == as_it_was_written(tmp_path)


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink, swap, race])
def test_parts_that_change_before_the_commit_are_not_committed(damage: Fault, tmp_path: Path) -> None:
    lake, said = tmp_path / "lake", list[str]()
    step: Number = Disturbed(Lake(lake), lambda folder: damage(folder if damage is race else _part(folder)))
    while len(said) < 3:
        try:
            run_here(step)
            break
        except LakeError as error:
            said.append(str(error))
            named = re.match(r"(\S+part-00001.parquet) is damaged.*remove it and run again", str(error))
            if named is not None:
                Path(named[1]).unlink()
            step = Number(Lake(lake))
    assert len(said) == (0 if damage is race else 1)
    assert all("part-00001.parquet" in words for words in said)
    assert step.worked == ([0, 1, 2, 3, 4] if damage is race else [1])
    assert digests(Lake(lake)) == as_it_was_written(tmp_path)


def test_parts_of_a_draft_that_were_exchanged_are_written_again(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    with pytest.raises(LakeError, match=r"part-00001.parquet is damaged, or was written for another dataset or place"):
        run_here(Disturbed(Lake(lake), lambda folder: exchange(_part(folder))))
    again = Number(Lake(lake))
    run_here(again)
    assert again.worked == [1, 2]
    assert digests(Lake(lake)) == as_it_was_written(tmp_path)


@pytest.mark.parametrize("name", ["part-00001.parquet", "_manifest.json"])
@pytest.mark.parametrize("damage", [truncate, flip, swap, Path.unlink])
def test_what_changes_after_the_commit_is_found_repaired_and_written_again(
    damage: Fault, name: str, tmp_path: Path
) -> None:
    lake = run_and_return(tmp_path / "lake")
    damage(_part(lake).with_name(name))
    found = check(Lake(lake), everything=True).damages
    without_manifest = (damage, name) == (Path.unlink, "_manifest.json")  # a dataset that was never committed
    assert without_manifest or any(each.file.endswith(name) for each in found)
    repair(Lake(lake), found)
    again = Number(Lake(lake))
    run_here(again)
    assert set(again.worked) <= {1}
    assert digests(Lake(lake)) == as_it_was_written(tmp_path)
