"""`scot check`: one flipped bit anywhere in a lake is found, is named with what it breaks, and is repaired by a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scot.check import check as command
from scot_core.errors import LakeError
from scot_core.lake import Dataset, Identity, Lake, Usage, parts
from scot_core.lake.check import check
from scot_core.lake.repair import repair
from scot_core.lake.views import HEADER
from tests.rows import no_rows

Rows = Callable[..., dict[str, Any]]
Identify = Callable[..., Identity]


def replies(count: int, usd: float) -> dict[str, Any]:
    columns = {name: [0] * count for name in ("attempt", "seed", "prompt_tokens", "completion_tokens")}
    texts = {name: ["x"] * count for name in ("pair_id", "source", "stage", "model", "text", "finish_reason")}
    return {**columns, **texts, "usd": [usd] * count}


def fill(lake: Lake, triplets: Rows, identify: Identify) -> dict[str, Dataset]:
    """Replies that cost 4 USD, triplets read from them, and weights beside a table without rows."""
    lake.check_writable()
    asked = lake.draft(identify("replies"))
    for part in range(2):
        asked.write_part(part, replies(5, 0.4))
    made = {"replies": asked.commit(2, rows_in=10, usage=Usage(usd=4.0))}
    read = lake.draft(replace(identify("triplets"), inputs=(made["replies"].reference,)))
    read.write_part(0, triplets(8))
    made["triplets"] = read.commit(1, rows_in=8)
    learned = lake.draft(replace(identify("adapters", stage="finetune"), inputs=(made["triplets"].reference,)))
    learned.write_part(0, no_rows("adapters"), {"adapter/weights.safetensors": bytes(range(256))})
    made["adapters"] = learned.commit(1, rows_in=0)
    lake.write_views()
    return made


def test_every_flipped_bit_of_every_file_is_found(local_lake: Lake, triplets: Rows, identify: Identify) -> None:
    fill(local_lake, triplets, identify)
    files = sorted(path for path in Path(local_lake.url).rglob("*") if path.is_file())
    assert len(files) == 10 and check(local_lake).damages == ()

    @settings(max_examples=300, deadline=None)
    @given(st.sampled_from(files), st.integers(0), st.integers(0, 7))
    def flip(path: Path, place: int, bit: int) -> None:
        whole = path.read_bytes()
        place %= len(whole)
        try:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            assert str(path.relative_to(local_lake.url)) in [damage.file for damage in check(local_lake).damages]
        finally:
            path.write_bytes(whole)

    flip()


def test_what_is_damaged_is_named_with_what_was_made_from_it(lake: Lake, triplets: Rows, identify: Identify) -> None:
    made = fill(lake, triplets, identify)
    name = made["replies"].paths[1]
    lake.storage.write(name, lake.storage.read(name)[:-1])
    lake.storage.remove(made["adapters"].paths[1])
    read: list[tuple[int, int]] = []
    found = check(lake, tick=lambda done, total: read.append((done, total)))
    cut, gone = found.damages
    assert cut.file == name and "were committed" in cut.why and cut.usd == pytest.approx(2.0)
    assert cut.breaks == (made["adapters"].name, made["triplets"].name)
    assert gone.file.endswith("adapter/weights.safetensors") and gone.why == "is missing" and gone.breaks == ()
    assert read[-1] == (found.bytes, found.bytes) and found.files == len(read) == 5


def test_older_datasets_are_read_where_all_are_wanted(
    local_lake: Lake, triplets: Rows, identify: Identify, commit: Callable[..., Dataset]
) -> None:
    older = commit(local_lake, identify(version=1), triplets(3))
    commit(local_lake, identify(version=2), triplets(3))
    local_lake.write_views()
    path = Path(local_lake.storage.path(older.paths[0]))
    path.write_bytes(path.read_bytes()[::-1])
    assert check(local_lake).damages == ()
    assert [damage.file for damage in check(local_lake, everything=True).damages] == older.paths


def test_a_repair_leaves_what_is_whole_and_a_run_writes_the_rest(
    lake: Lake, triplets: Rows, identify: Identify
) -> None:
    made = fill(lake, triplets, identify)
    name = made["replies"].paths[0]
    expected = made["replies"].read()
    data = bytearray(lake.storage.read(name))
    data[10] ^= 1  # in a page: the footer, which a run goes by, is whole
    lake.storage.write(name, bytes(data))
    moved = repair(lake, check(lake).damages)
    assert moved == [f"{made['replies'].name}/_manifest.json", name]
    assert lake.find(identify("replies")) is None and check(lake).damages == ()
    draft = lake.draft(identify("replies"))
    assert [draft.has_part(index) for index in range(2)] == [False, True]
    draft.write_part(0, replies(5, 0.4))
    assert draft.commit(2, rows_in=10, usage=Usage(usd=4.0)).read().equals(expected)


def test_a_damaged_manifest_hides_no_damaged_part(lake: Lake, triplets: Rows, identify: Identify) -> None:
    made = fill(lake, triplets, identify)
    name = made["replies"].paths[0]
    texts = parquet.read_metadata(BytesIO(lake.storage.read(name))).row_group(0).column(0)
    in_page = (texts.dictionary_page_offset or texts.data_page_offset) + texts.total_compressed_size - 1
    for damaged, place in ((name, in_page), (f"{made['replies'].name}/_manifest.json", 10)):
        data = bytearray(lake.storage.read(damaged))
        data[place] ^= 1
        lake.storage.write(damaged, bytes(data))
    found = check(lake)
    manifest, part = found.damages
    assert manifest.is_manifest and part.file == made["replies"].paths[0] and found.old == ("views.sql",)
    assert manifest.usd == 0 and part.usd is None and manifest.breaks
    repair(lake, [manifest, part])
    draft = lake.draft(identify("replies"))
    assert [draft.has_part(index) for index in range(2)] == [False, True] and check(lake).damages == ()


def test_the_command_moves_nothing_that_was_paid_for_unless_it_is_told_to(
    local_lake: Lake, triplets: Rows, identify: Identify, capsys: pytest.CaptureFixture[str]
) -> None:
    made = fill(local_lake, triplets, identify)
    command(lake=local_lake.url)
    assert "as committed" in capsys.readouterr().out
    path = Path(local_lake.storage.path(made["replies"].paths[0]))
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(SystemExit) as ended:
        command(lake=local_lake.url, json_=True)
    answer = json.loads(capsys.readouterr().out)
    assert ended.value.code == 1 and not answer["repaired"]
    assert [(damage["file"], damage["usd"]) for damage in answer["damaged"]] == [(made["replies"].paths[0], 2.0)]
    with pytest.raises(LakeError, match=r"replies that cost 2\.00 USD would be moved aside.*--repair --yes"):
        command(lake=local_lake.url, repair=True)
    assert path.exists() and local_lake.find(identify("replies"))
    with pytest.raises(SystemExit):
        command(lake=local_lake.url, repair=True, yes=True)
    assert not path.exists() and local_lake.find(identify("replies")) is None
    command(lake=local_lake.url, all_=True)


def test_views_of_before_are_old_and_no_damage(
    local_lake: Lake, triplets: Rows, identify: Identify, commit: Callable[..., Dataset],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    fill(local_lake, triplets, identify)
    path = Path(local_lake.url) / "views.sql"
    sealed = path.read_bytes()
    unsealed = b"%b\nCREATE VIEW of_another_scot AS SELECT 1;\n" % HEADER.encode()  # as the first Scots wrote them
    for old in (sealed, unsealed):
        path.write_bytes(old)
        commit(local_lake, identify(version=len(old)), triplets(3))
        found = check(local_lake)
        assert found.damages == () and found.old == ("views.sql",)
        command(lake=local_lake.url)
        assert "views.sql is old" in capsys.readouterr().out
        command(lake=local_lake.url, repair=True)
        assert check(local_lake).old == ()
    path.write_bytes(sealed.replace(b"VIEW", b"VIEM", 1))
    assert [damage.file for damage in check(local_lake).damages] == ["views.sql"]


def test_manifests_of_the_first_scots_have_no_seal_and_are_read(
    local_lake: Lake, triplets: Rows, identify: Identify, commit: Callable[..., Dataset]
) -> None:
    dataset = commit(local_lake, identify(), triplets(3))
    local_lake.write_views()
    path = Path(local_lake.storage.path(f"{dataset.name}/_manifest.json"))
    content = json.loads(path.read_bytes())
    del content["seal"]
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False))
    assert check(local_lake).damages == ()
    content["seal"] = "0" * 32
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False))
    with pytest.raises(LakeError, match="its seal differs"):
        local_lake.find(identify())


def test_weights_that_no_footer_names_are_not_lost_by_a_repair(lake: Lake, identify: Identify) -> None:
    """As the first Scots wrote them: a run would keep such a part, and commit it without its weights."""
    draft = lake.draft(identify("combiners"))
    draft.write_part(0, no_rows("combiners"), {"seed-0/model.safetensors": b"weights"})
    dataset = draft.commit(1, rows_in=0)
    (part,) = dataset.parts
    data = lake.storage.read(f"{dataset.name}/{part.name}")
    table = parquet.read_table(BytesIO(data)).replace_schema_metadata(None)
    unnamed = parts.encode(table, dataset.fingerprint)
    footer = parts.read_footer(unnamed)
    assert footer is not None and footer.files == ()
    older = dataset.manifest.model_copy(update={"parts": (parts.part_of(part.name, unnamed, footer),), "seal": None})
    lake.storage.write(f"{dataset.name}/{part.name}", unnamed)
    lake.storage.write(f"{dataset.name}/_manifest.json", older.encode())
    lake.write_views()
    assert check(lake).damages == ()
    for damaged in (b"Weights", None):
        lake.storage.remove(dataset.paths[1])
        if damaged is not None:
            lake.storage.write(dataset.paths[1], damaged)
        repair(lake, check(lake).damages)
        assert not lake.draft(identify("combiners")).has_part(0)
        lake.storage.write(f"{dataset.name}/{part.name}", unnamed)
        lake.storage.write(f"{dataset.name}/_manifest.json", older.encode())
