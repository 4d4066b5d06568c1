"""What the command line prints is what was asked for, letter by letter, and errors are a line."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from rich.console import Console

from scot import cli
from scot.doctor import examine
from scot.terminal import show_table
from scot_core.errors import DataError, LakeError
from scot_core.lake import Identity, Lake
from scot_core.lake.fingerprint import fingerprint
from scot_core.search import Answer
from tests.rows import no_rows


def test_brackets_of_a_reply_are_letters_not_markup() -> None:
    console = Console(file=io.StringIO(), record=True, width=120)
    show_table(console, pa.table({"[/raw]": ["[INST] a mug [/INST]", "[bold]x"]}), title="[/t]")
    printed = console.export_text()
    for word in ("[/t]", "[/raw]", "[INST] a mug [/INST]", "[bold]x"):
        assert word in printed


def test_a_package_that_only_flows_need_is_no_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("scot.doctor.FOR_FLOWS", ("no-such-package",))
    monkeypatch.setattr("scot.doctor.PACKAGES", ("no-such-package", "nor-this-one"))
    flows, needed = examine(str(tmp_path / "lake"))[:2]
    assert (flows.ok, needed.ok) == (None, False)


def test_a_picture_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    answer = Answer(Image.new("RGB", (8, 8)), 0.5, [], [])
    for path in (tmp_path / "a.unknown", tmp_path / "nowhere" / "a.png"):
        with pytest.raises(DataError, match="cannot write the picture"):
            answer.save(path)


def test_files_that_cannot_be_put_somewhere_are_one_error(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    draft = lake.draft(Identity("combiners", "catalogue", "train", fingerprint("train", 1, {}, []), {}))
    draft.write_part(0, no_rows("combiners"), {"a.json": b"{}"})
    dataset = draft.commit(1, rows_in=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(LakeError, match=r"cannot write .*file/a\.json"):
        dataset.files_in(tmp_path / "file")


def test_what_an_answer_leaves_out_is_said_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = Lake(tmp_path / "lake")
    draft = lake.draft(Identity("combiners", "catalogue", "train", fingerprint("train", 1, {}, []), {}))
    name = f"{draft.commit(0, rows_in=0).name}/_manifest.json"
    lake.storage.write(name, b"{")
    cli.query("select count(*)::int as n from runs", lake=lake.url, json_=True)
    cli.status(lake=lake.url, json_=True)
    said = capsys.readouterr()
    counted, status = map(json.loads, said.out.splitlines())
    assert counted == [{"n": 0}]
    assert len(status["damaged"]) == 1 and name in status["damaged"][0]
    assert said.err.count("left out: ") == said.err.count(f"{lake.url}/{name} is no whole manifest") == 2
