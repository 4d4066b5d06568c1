"""The lake: datasets are committed whole or do not exist, and what is read is what was committed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scot_core.errors import ConfigError, LakeError
from scot_core.lake import Dataset, Identity, Lake, Reference, Usage
from scot_core.lake.draft import files_of
from scot_core.lake.fingerprint import fingerprint
from scot_core.lake.lineage import ancestor, parents
from scot_core.lake.storage import Storage
from scot_core.query import query
from scot_core.stages.step import Step, Tick, identities, shard_sizes
from tests.rows import no_rows
from tests.running import run_here

Rows = Callable[..., dict[str, Any]]
Identify = Callable[..., Identity]
Commit = Callable[..., Dataset]


class Number(Step):
    """Seven hundred numbered triplets in shards of a hundred; every seventh is rejected."""

    stage, name = "number", "number triplets"
    pause_s = 0.0

    def __init__(self, lake: Lake) -> None:
        super().__init__(lake)
        self.worked: list[int] = []

    @property
    def outputs(self) -> Mapping[str, Identity]:
        return identities(
            "rejects", "triplets", source="shop", label="number", sealed_as="number", version=1, config={}
        )  # fmt: skip

    def shards(self) -> Sequence[int]:
        return shard_sizes(700, 100)

    def work(self, shard: int, tick: Tick) -> None:
        self.worked.append(shard)
        numbers = range(shard * 100, shard * 100 + 100)
        lost, kept = ([f"{n:032x}" for n in numbers if (n % 7 == 0) == rejected] for rejected in (True, False))
        columns = {name: ["x"] * len(lost) for name in ("source", "stage", "reason", "raw")}
        self.drafts["rejects"].write_part(shard, {**columns, "pair_id": lost, "tries": [1] * len(lost)})
        time.sleep(self.pause_s)
        texts = ("source", "image_id", "kind", "caption", "modification", "modified_caption", "model")
        self.drafts["triplets"].write_part(shard, {**{name: ["x"] * len(kept) for name in texts}, "pair_id": kept})
        tick(100)


def _part(lake: Lake, dataset: Dataset, index: int = 0) -> Path:
    return Path(lake.storage.path(dataset.paths[index]))


# ------------------------------------------------------------------------------------- write and read


def test_a_committed_dataset_reads_back_in_order(
    lake: Lake, triplets: Rows, identify: Identify, commit: Commit
) -> None:
    parts = [triplets(3), triplets(2, first=3), triplets(0)]
    written = commit(lake, identify(), *parts, rejected=4)
    found = lake.find(identify())
    assert found is not None
    assert found.manifest == written.manifest
    assert found.record == written.record
    assert (found.record.table, found.record.rows, found.record.rejected) == ("triplets", 5, 4)
    table = found.read()
    assert table["pair_id"].to_pylist() == [f"{number:032x}" for number in range(5)]
    assert set(table["key"].to_pylist()) == {identify().key}
    assert [part.num_rows for part in found.read_parts(["caption"])] == [3, 2, 0]
    assert found.read(["caption", "source"]).schema.names == ["caption", "source"]
    assert found.read_part(1)["image_id"].to_pylist() == ["image-3", "image-4"]
    assert [part.name for part in found.parts] == [f"part-0000{n}.parquet" for n in range(3)]


def test_a_dataset_without_parts_reads_as_no_rows(lake: Lake, identify: Identify, commit: Commit) -> None:
    empty = commit(lake, identify())
    assert empty.read().num_rows == 0
    assert empty.read(["caption", "key"]).schema.names == ["caption", "key"]


def test_images_and_vectors_come_back_bit_for_bit(lake: Lake, identify: Identify, commit: Commit) -> None:
    image = {"bytes": bytes(range(256)), "path": "a.png"}
    pictures = {"pair_id": ["p"], "source": ["shop"], "image_id": ["i"], "caption": ["ü"], "image": [image]}
    assert commit(lake, identify("captions"), pictures).read()["image"].to_pylist() == [image]
    vector = pa.FixedSizeListArray.from_arrays(pa.array([0.1, -0.2, 0.3, 0.4], pa.float32()), 2)
    texts: dict[str, Any] = {"item_id": ["a", "b"], "source": ["s"] * 2, "kind": ["text"] * 2, "text": ["x", None]}
    vectors = commit(lake, identify("embeddings"), {**texts, "encoder": ["e"] * 2, "vector": vector})
    assert vectors.read()["vector"].combine_chunks().equals(vector)
    assert vectors.read()["text"].to_pylist() == ["x", None]


def test_the_manifest_says_what_was_made_from_what_with_what(lake: Lake, triplets: Rows) -> None:
    config = {"prompt": "naïve", "seeds": (1, 2)}
    inputs = [Reference("captions", "c-1")]
    identity = Identity("triplets", "shop", "seed", fingerprint("seed", 1, config, ["f"]), config, inputs)
    draft = lake.draft(identity)
    draft.write_part(0, triplets(2))
    usage = Usage(seconds=1.5, prompt_tokens=10, completion_tokens=20, usd=0.25)
    dataset = draft.commit(1, rows_in=2, usage=usage)
    assert (dataset.config, list(dataset.inputs)) == ({"prompt": "naïve", "seeds": [1, 2]}, inputs)
    assert dataset.usage == usage
    assert dataset.manifest.versions["pyarrow"] == pa.__version__
    on_disk = json.loads(lake.storage.read(f"{dataset.name}/_manifest.json"))
    assert list(on_disk) == [
        "format", "table", "key", "fingerprint", "source", "stage", "config", "inputs", "parts", "files", "rows",
        "usage", "characters", "versions", "created_at", "seal",
    ]  # fmt: skip
    assert (on_disk["format"], on_disk["inputs"]) == (1, ["captions/c-1"])
    assert on_disk["rows"] == {"in": 2, "out": 2, "rejected": 0}
    assert on_disk["usage"] == {"seconds": 1.5, "prompt_tokens": 10, "completion_tokens": 20, "usd": 0.25}
    assert on_disk["fingerprint"] == identity.fingerprint
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", on_disk["created_at"])


def test_files_beside_the_parts_are_committed_with_them(lake: Lake, identify: Identify, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    for name in ("deep/model.safetensors", "config.json", ".hidden", "_checkpoint/step-1", "deep/.cache/x"):
        (weights / name).parent.mkdir(parents=True, exist_ok=True)
        (weights / name).write_bytes(name.encode())
    expected = {f"seed-0/{name}": name.encode() for name in ("deep/model.safetensors", "config.json")}
    draft = lake.draft(identify("combiners"))
    draft.write_part(0, no_rows("combiners"), files_of(weights, "seed-0"))
    draft.write_part(1, no_rows("combiners"), {"note.txt": b"by hand"})
    lake.storage.write(f"{draft.folder}/stray.txt", b"nobody's")
    dataset = draft.commit(2, rows_in=None)
    assert [file.name for file in dataset.files] == ["note.txt", *sorted(expected)]
    copied = dataset.files_in(tmp_path / "no" / "such" / "folder" / "yet")
    found = {path.relative_to(copied).as_posix(): path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    assert found == {**expected, "note.txt": b"by hand"}
    lake.storage.write(f"{dataset.name}/seed-0/config.json", b"[]")
    with pytest.raises(LakeError, match=r"config\.json is not what was committed"):
        dataset.files_in(tmp_path / "again")
    lake.storage.remove(f"{dataset.name}/seed-0/config.json")
    with pytest.raises(LakeError, match=r"config\.json is missing; remove it and _manifest\.json"):
        lake.find(identify("combiners"))
    lake.storage.remove(f"{dataset.name}/_manifest.json")
    again = lake.draft(identify("combiners"))
    assert [again.has_part(0), again.has_part(1)] == [False, True]  # the part whose file is gone is written again


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", ".x", "_manifest.json", "a\\b", ""])
def test_a_file_that_would_lie_elsewhere_is_not_written(local_lake: Lake, identify: Identify, name: str) -> None:
    with pytest.raises(LakeError, match="cannot hold the file"):
        local_lake.draft(identify("combiners")).write_part(0, no_rows("combiners"), {name: b""})
    assert not Path(local_lake.url).exists()


def test_a_folder_that_cannot_take_the_files_is_named(lake: Lake, identify: Identify, tmp_path: Path) -> None:
    draft = lake.draft(identify("combiners"))
    draft.write_part(0, no_rows("combiners"), {"x/y": b""})
    (tmp_path / "file").write_text("")
    with pytest.raises(LakeError, match=rf"cannot write {tmp_path}/file/x/y: Not a directory"):
        draft.commit(1, rows_in=None).files_in(tmp_path / "file")


def test_a_part_of_a_draft_can_be_read_and_its_footer_alone(
    lake: Lake, triplets: Rows, identify: Identify, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = lake.draft(identify())
    draft.write_part(0, triplets(3))
    assert draft.read_part(0)["caption"].to_pylist() == triplets(3)["caption"]
    asked: list[int | None] = []
    read = Storage.read_if_there

    def recorded(self: Storage, name: str, last: int | None = None) -> bytes | None:
        asked.append(last)
        return read(self, name, last)

    monkeypatch.setattr(Storage, "read_if_there", recorded)
    assert draft.has_part(0)
    assert asked == [1 << 16]


def test_rows_that_do_not_fit_the_table_are_refused(lake: Lake, triplets: Rows, identify: Identify) -> None:
    draft = lake.draft(identify())
    short = triplets(2)
    del short["caption"]
    wrong: list[dict[str, Any]] = [
        short,
        {**triplets(2), "extra": [1, 2]},
        {**triplets(2), "caption": ["one"]},
        {**triplets(2), "caption": [1, 2]},
        {**triplets(2), "caption": ["half a pair \ud800", "x"]},
    ]
    for rows in wrong:
        with pytest.raises(LakeError, match="fit the table triplets"):
            draft.write_part(0, rows)
    assert not draft.has_part(0)
    with pytest.raises(ConfigError, match="no table 'pictures'; the tables are captions"):
        lake.table("pictures")


# ------------------------------------------------------------------------------------- atomicity


def test_parts_without_a_manifest_do_not_exist(lake: Lake, triplets: Rows, identify: Identify, commit: Commit) -> None:
    draft = lake.draft(identify())
    draft.write_part(0, triplets(3))
    assert draft.has_part(0)
    assert not draft.has_part(1)
    assert lake.find(identify()) is None
    assert lake.datasets() == []
    assert lake.uncommitted() == [draft.folder]
    assert query(lake, "from triplets_all").num_rows == 0
    with pytest.raises(LakeError, match=r"triplets holds no dataset with stage=seed \(there is: nothing\)"):
        lake.table("triplets").latest(stage="seed")
    draft.commit(1, rows_in=3)
    assert lake.uncommitted() == []


def test_no_row_is_lost_at_a_commit(lake: Lake, triplets: Rows, identify: Identify) -> None:
    draft = lake.draft(identify())
    draft.write_part(0, triplets(3))
    for rows_in, rejected in ((2, 0), (4, 0), (3, 1), (5, 1)):
        with pytest.raises(LakeError, match=f"{rows_in} rows went in, but 3 came out and {rejected} were rejected"):
            draft.commit(1, rows_in=rows_in, rejected=rejected)
    with pytest.raises(LakeError, match=r"cannot read .*part-00001\.parquet"):
        draft.commit(2, rows_in=3)
    assert lake.find(identify()) is None
    assert draft.commit(1, rows_in=5, rejected=2).rows == 3


def test_what_is_committed_stays_as_it_is(lake: Lake, triplets: Rows, identify: Identify, commit: Commit) -> None:
    """Two runs of the same dataset at once, such as replies that were sampled twice: the first one counts."""
    first = commit(lake, identify(), triplets(3))
    late = lake.draft(identify())
    late.write_part(0, triplets(3, first=90))
    assert late.commit(1, rows_in=3).record == first.record
    found = lake.find(identify())
    assert found is not None
    assert found.read() == first.read()


def test_a_commit_clears_what_only_the_run_needed(
    lake: Lake, triplets: Rows, identify: Identify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCOT_CACHE", str(tmp_path / "scratch"))
    draft = lake.draft(identify())
    lake.storage.write(f"{draft.folder}/.part-00000.parquet.0a1b2c3d.tmp", b"left by a kill")
    draft.journal(0).append({"id": 1})
    work = draft.work_folder()
    (work / "checkpoint").write_text("x")
    draft.write_part(0, triplets(1))
    assert lake.draft(identify()).work_folder() == work
    assert (work / "checkpoint").exists()
    dataset = draft.commit(1, rows_in=1)
    assert lake.storage.names(dataset.name) == ["_manifest.json", "part-00000.parquet"]
    assert not work.exists()


def test_another_lake_that_commits_the_same_leaves_the_work_of_this_one(
    lake: Lake, triplets: Rows, identify: Identify
) -> None:
    other = Lake(f"{lake.url}/other")
    work = lake.draft(identify()).work_folder()
    (work / "checkpoint").write_text("x")
    draft = other.draft(identify())
    assert draft.work_folder() != work
    draft.write_part(0, triplets(1))
    draft.commit(1, rows_in=1)
    assert (work / "checkpoint").exists()


def test_a_step_that_is_stopped_is_taken_up_where_it_was(lake: Lake) -> None:
    interrupted = Number(lake)

    def stop(_: int) -> None:
        if len(interrupted.worked) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_here(interrupted, stop)
    assert interrupted.committed() is None
    again = Number(lake)
    ticks: list[int] = []
    rejects, triplets = run_here(again, ticks.append).values()
    assert again.worked == [3, 4, 5, 6]
    assert sum(ticks) == 700
    assert (rejects.rows, triplets.rows, triplets.record.rejected) == (100, 600, 100)
    cached = Number(lake)
    assert [d.record for d in run_here(cached).values()] == [rejects.record, triplets.record]
    assert cached.worked == []


def test_a_step_that_was_killed_between_its_commits_makes_up_for_the_second(lake: Lake) -> None:
    killed = Number(lake)
    for shard in range(7):
        killed.run(shard, lambda _: None)
    killed.drafts["rejects"].commit(7, rows_in=None)
    again = Number(lake)
    assert again.committed() is None
    assert run_here(again)["triplets"].record.rejected == 100
    assert again.worked == []


def test_shards_may_be_done_from_several_threads(lake: Lake) -> None:
    step = Number(lake)
    step.pause_s = 0.002
    counted, lock = [0], threading.Lock()

    def tick(units: int) -> None:
        with lock:
            counted[0] += units

    with ThreadPoolExecutor(7) as pool:
        assert all(pool.map(lambda shard: step.run(shard, tick), range(7)))
    triplets = step.commit()["triplets"]
    assert sorted(step.worked) == list(range(7))
    assert counted == [700]
    assert step.seconds > 7 * step.pause_s * 0.9
    ids = triplets.read(["pair_id"])["pair_id"].to_pylist()
    assert ids == [f"{number:032x}" for number in range(700) if number % 7]


RUN_NUMBER = """
import sys
sys.path.insert(0, sys.argv[2])
from test_lake import Number
from scot_core.lake import Lake
from tests.running import run_here
step = Number(Lake(sys.argv[1]))
step.pause_s = 0.02
run_here(step, lambda units: print(units, flush=True))
"""


def test_kills_at_any_moment_end_in_the_same_parts(tmp_path: Path) -> None:
    undisturbed = run_here(Number(Lake(tmp_path / "undisturbed")))["triplets"]
    lake = Lake(tmp_path / "killed")
    command = [sys.executable, "-c", RUN_NUMBER, lake.url, str(Path(__file__).parent)]
    for lines, delay in ((1, 0.01), (3, 0.0), (3, 0.03)):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert process.stdout is not None
        for _ in range(lines):
            assert process.stdout.readline() == "100\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        lake.write_views()  # readers are never disturbed by what is half done
    triplets = run_here(Number(lake))["triplets"]
    assert triplets.parts == undisturbed.parts
    left = {path.name for path in Path(lake.url, triplets.name).iterdir()}
    assert left == {"_manifest.json", *(f"part-0000{n}.parquet" for n in range(7))}


def test_following_the_advice_of_the_error_redoes_the_damaged_shard_alone(local_lake: Lake) -> None:
    committed = run_here(Number(local_lake))["triplets"]
    path = _part(local_lake, committed, 4)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(LakeError) as raised:
        run_here(Number(local_lake))
    named = re.match(r"(\S+) .* remove it and (\S+) beside it", str(raised.value))
    assert named is not None
    assert named[1] == str(path)
    path.unlink()
    (path.parent / named[2]).unlink()
    again = Number(local_lake)
    rebuilt = run_here(again)["triplets"]
    assert again.worked == [4]
    assert rebuilt.parts == committed.parts
    assert path.read_bytes() == whole


def test_a_lake_that_cannot_be_written_says_so(tmp_path: Path, triplets: Rows, identify: Identify) -> None:
    (tmp_path / "file").write_text("not a folder")
    for root in (tmp_path / "file" / "lake", Path("/proc/lake")):
        lake = Lake(root)
        for attempt in (
            lake.check_writable,
            lambda lake=lake: lake.draft(identify()).write_part(0, triplets(1)),
            lambda lake=lake: lake.draft(identify()).journal(0).append({}),
            lambda lake=lake: lake.draft(identify()).work_folder(),
        ):
            with pytest.raises(LakeError, match=f"{root}"):
                attempt()
    with pytest.raises(LakeError, match="cannot list"):
        Lake(tmp_path / "file" / "lake").datasets()


# ------------------------------------------------------------------------------------- finding


def test_the_newest_dataset_is_the_one_committed_last(
    lake: Lake, triplets: Rows, identify: Identify, commit: Commit
) -> None:
    identities = [identify(version=version) for version in range(6)]
    for number, identity in enumerate(identities):
        commit(lake, identity, triplets(number))
    commit(lake, identify(source="other"), triplets(9, source="other"))
    table = lake.table("triplets")
    assert [dataset.rows for dataset in table.datasets()] == [0, 1, 2, 3, 4, 5, 9]
    assert table.latest(source="shop").rows == 5
    assert table.latest(source="shop", stage="seed", key=identities[2].key).rows == 2
    assert [dataset.rows for dataset in table.matching(source="other")] == [9]
    assert table.find("no-such-key") is None
    there = ", ".join(d.key for d in table.datasets())
    for filters in ({"source": "nobody"}, {"source": "shop", "stage": "none"}, {"key": "no-key"}):
        wanted = " ".join(f"{name}={value}" for name, value in filters.items())
        with pytest.raises(LakeError, match=rf"/triplets holds no dataset with {wanted} \(there is: {there}\)$"):
            table.latest(**filters)
    assert table.latest(stage="seed").rows == 9


class Clock(datetime):
    """A clock that is set back between commits."""

    hour = 12

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return cls(2026, 1, 1, Clock.hour, tzinfo=tz)


def test_a_clock_that_was_set_back_changes_no_order(
    lake: Lake, triplets: Rows, identify: Identify, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scot_core.lake.draft.datetime", Clock)
    committed = []
    for version, hour in enumerate((12, 3, 3, 0)):
        monkeypatch.setattr(Clock, "hour", hour)
        committed.append(commit(lake, identify(version=version), triplets(version)))
    made_from = replace(identify("rejects"), inputs=[committed[-1].reference])
    committed.append(commit(lake, made_from))
    monkeypatch.setattr(Clock, "hour", 13)
    committed.append(commit(lake, identify(version=9), triplets(9)))
    assert [d.record for d in lake.datasets()] == [d.record for d in committed]
    assert lake.table("triplets").latest().rows == 9
    moments = [d.created_at for d in committed]
    assert moments[0] == datetime(2026, 1, 1, 12, tzinfo=UTC) and moments[-1] == datetime(2026, 1, 1, 13, tzinfo=UTC)
    assert [moment - moments[0] for moment in moments[:5]] == [timedelta(microseconds=n) for n in range(5)]


def test_what_a_dataset_was_made_from_is_found_by_its_manifest(
    lake: Lake, triplets: Rows, identify: Identify, commit: Commit
) -> None:
    old, seeds = commit(lake, identify(version=1), triplets(1)), commit(lake, identify(version=2), triplets(2))
    adapters = commit(lake, replace(identify("adapters"), inputs=[seeds.reference, old.reference]))
    replies = commit(lake, replace(identify("replies"), inputs=[adapters.reference]))
    generated = commit(lake, replace(identify(version=3), inputs=[replies.reference]), triplets(3))
    commit(lake, identify(version=4), triplets(4))  # newer, and nobody's
    assert [d.name for d in parents(lake, adapters)] == [seeds.name, old.name]
    assert ancestor(lake, replies, "adapters").name == adapters.name
    assert ancestor(lake, replies, "triplets").name == seeds.name
    assert ancestor(lake, generated, "triplets").name == seeds.name
    with pytest.raises(LakeError, match=rf"{generated.name} was made from nothing in table captions"):
        ancestor(lake, generated, "captions")
    lake.storage.remove(old.name)
    assert ancestor(lake, replies, "triplets").name == seeds.name
    with pytest.raises(LakeError, match=rf"{old.name}, which {adapters.name} was made from, is no longer in"):
        parents(lake, adapters)
    lake.storage.remove(adapters.name)
    with pytest.raises(LakeError, match=rf"{adapters.name}, which {replies.name} was made from, is no longer in"):
        ancestor(lake, generated, "triplets")


def _blake2b(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def test_the_files_of_a_lake_are_what_other_versions_read(
    local_lake: Lake, triplets: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names, order and form of everything that is JSON or SQL, and what Parquet readers see of a part."""
    monkeypatch.setattr("scot_core.lake.draft.datetime", Clock)
    monkeypatch.setattr(Clock, "hour", 12)
    monkeypatch.setattr("scot_core.lake.draft.library_versions", dict)
    identity = Identity("triplets", "shop", "seed", "0123456789abcdef" * 2, {"ü": 1}, [Reference("captions", "c-1")])
    draft = local_lake.draft(identity)
    draft.write_part(0, triplets(2), {"config.json": b"{}"})
    dataset = draft.commit(
        1, rows_in=3, rejected=1, usage=Usage(seconds=1.5, prompt_tokens=10, completion_tokens=20, usd=0.25)
    )
    part = Path(local_lake.storage.path(dataset.paths[0])).read_bytes()
    size = int.from_bytes(part[-8:-4], "little") + 8
    expected = f"""{{
 "format": 1,
 "table": "triplets",
 "key": "shop-seed-0123456789ab",
 "fingerprint": "0123456789abcdef0123456789abcdef",
 "source": "shop",
 "stage": "seed",
 "config": {{
  "ü": 1
 }},
 "inputs": [
  "captions/c-1"
 ],
 "parts": [
  {{
   "name": "part-00000.parquet",
   "rows": 2,
   "bytes": {len(part)},
   "digest": "{_blake2b(part)}",
   "footer": {{
    "bytes": {size},
    "digest": "{_blake2b(part[-size:])}"
   }}
  }}
 ],
 "files": [
  {{
   "name": "config.json",
   "bytes": 2,
   "digest": "{_blake2b(b"{}")}"
  }}
 ],
 "rows": {{
  "in": 3,
  "out": 2,
  "rejected": 1
 }},
 "usage": {{
  "seconds": 1.5,
  "prompt_tokens": 10,
  "completion_tokens": 20,
  "usd": 0.25
 }},
 "characters": {{
  "caption": 38,
  "image_id": 14,
  "key": 44,
  "kind": 8,
  "model": 14,
  "modification": 24,
  "modified_caption": 40,
  "pair_id": 64,
  "source": 8
 }},
 "versions": {{}},
 "created_at": "2026-01-01T12:00:00.000000+00:00"
}}"""
    folder = Path(local_lake.url, "triplets", "shop-seed-0123456789ab")
    sealed = expected.removesuffix("\n}") + f',\n "seal": "{_blake2b(expected.encode())}"\n}}'
    assert (folder / "_manifest.json").read_text() == sealed
    column = pq.read_metadata(pa.BufferReader(part)).row_group(0).column(0)
    assert column.compression == "ZSTD"
    local_lake.check_writable()
    assert Path(local_lake.url, ".scot").read_text() == '{"format": 1}\n'
    local_lake.write_views()
    views = Path(local_lake.url, "views.sql").read_text().split("\n")
    said = "-- views over committed data; written by scot, start DuckDB in this folder to use them"
    body = "\n".join(views[1:])
    assert views[0] == f"{said}; seal {_blake2b(body.encode())}"
    select = (
        "SELECT * FROM read_parquet('[\"triplets/shop-seed-0123456789ab/part-00000.parquet\"]'::VARCHAR[], "
        "hive_partitioning=false);"
    )
    assert f'CREATE OR REPLACE VIEW "triplets" AS {select}' in views
    assert f'CREATE OR REPLACE VIEW "triplets_all" AS {select}' in views
    empty = {
        "galleries": '"source" VARCHAR, "image_id" VARCHAR, "draw" VARCHAR, "role" VARCHAR, "shows" VARCHAR, '
        '"query" VARCHAR, "image" STRUCT("bytes" BLOB| "path" VARCHAR), "key" VARCHAR',
        "replies": '"pair_id" VARCHAR, "source" VARCHAR, "stage" VARCHAR, "model" VARCHAR, "attempt" TINYINT, '
        '"seed" BIGINT, "text" VARCHAR, "finish_reason" VARCHAR, "prompt_tokens" INTEGER, "completion_tokens" INTEGER, '
        '"usd" DOUBLE, "key" VARCHAR',
        "embeddings": '"item_id" VARCHAR, "source" VARCHAR, "kind" VARCHAR, "text" VARCHAR, "encoder" VARCHAR, '
        '"vector" FLOAT[], "key" VARCHAR',
    }
    for table, columns in empty.items():
        typed = [column.replace("|", ",").split(" ", 1) for column in columns.split(", ")]
        nothing = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in typed)
        for view in (table, f"{table}_all"):
            assert f'CREATE OR REPLACE VIEW "{view}" AS SELECT {nothing} WHERE false;' in views
    counted = (
        '{"caption"=38, "image_id"=14, "key"=44, "kind"=8, "model"=14, "modification"=24, "modified_caption"=40, '
        '"pair_id"=64, "source"=8}'
    )
    runs = [
        f"unnest('[{cell}]'::{kind}[]) AS \"{name}\""
        for name, kind, cell in (
            ("table", "VARCHAR", '"triplets"'),
            ("key", "VARCHAR", '"shop-seed-0123456789ab"'),
            ("source", "VARCHAR", '"shop"'),
            ("stage", "VARCHAR", '"seed"'),
            ("newest", "BOOLEAN", "true"),
            ("promoted", "BOOLEAN", "false"),
            ("rows_in", "BIGINT", "3"),
            ("rows_out", "BIGINT", "2"),
            ("rejected", "BIGINT", "1"),
            ("seconds", "DOUBLE", "1.5"),
            ("prompt_tokens", "BIGINT", "10"),
            ("completion_tokens", "BIGINT", "20"),
            ("usd", "DOUBLE", "0.25"),
            ("characters", "MAP(VARCHAR, BIGINT)", counted),
            ("created_at", "TIMESTAMPTZ", '"2026-01-01T12:00:00.000000+00:00"'),
            ("inputs", "VARCHAR[]", '["captions/c-1"]'),
        )
    ]
    assert views[-2:] == [
        f'CREATE OR REPLACE VIEW "runs" AS SELECT {", ".join(runs)};',
        "",
    ]


def test_plain_parquet_readers_find_the_fingerprint_in_the_footer(
    local_lake: Lake, triplets: Rows, identify: Identify, commit: Commit
) -> None:
    path = _part(local_lake, commit(local_lake, identify(), triplets(5)))
    metadata = pq.read_metadata(path).metadata
    assert metadata[b"scot.fingerprint"].decode() == identify().fingerprint


def test_the_lake_needs_no_torch() -> None:
    script = "import sys, scot_core.lake, scot_core.query; sys.exit('torch' in sys.modules or 'prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_query_waits_for_no_model_and_no_settings_of_stages(tmp_path: Path) -> None:
    code = "import sys; from scot import look; look.query('select 1', lake=sys.argv[1]); print(*sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True
    ).stdout
    assert not {"torch", "PIL", "openai", "prefect", "scot_core.config.pipeline", "scot_core.encoders"} & set(
        told.split()
    )


def test_what_another_run_put_in_the_place_of_a_part_is_what_is_committed(
    local_lake: Lake, triplets: Rows, identify: Identify
) -> None:
    mine, other = local_lake.draft(identify()), local_lake.draft(identify())
    mine.write_part(0, triplets(3), {"config.json": b"mine"})
    other.write_part(0, triplets(2), {"config.json": b"the other's"})
    dataset = mine.commit(1, rows_in=2)
    assert len(dataset.read()) == dataset.rows == 2  # against their digests
    assert dataset.files[0].bytes == len(b"the other's")
