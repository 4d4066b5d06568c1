"""What the command line prints is what was asked for, letter by letter, and errors are a line."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from scot import look
from scot.doctor import examine
from scot.terminal import benchmark_tables, say, show_table
from scot.values import PLAIN, as_json, of_answer, of_records, of_table
from scot_core.errors import DataError, LakeError
from scot_core.lake import Identity, Lake
from scot_core.lake.fingerprint import fingerprint
from scot_core.printable import printable
from scot_core.search import Answer
from tests.rows import no_rows

ROW: dict[str, Any] = {
    "benchmark": "catalogue", "split": "all", "method": "scot", "metric": "R@1", "value": 1.0, "low": 0.5, "high": 2.0,
    "queries": 9, "seeds": 1,
}  # fmt: skip
HOSTILE = ":x: \x1b[31m[bold]hi[/] \x07\u202egnp.exe\x9b2J"
SEEN = r":x: \x1b[31m[bold]hi[/] \x07\u202egnp.exe\x9b2J"


def shown(show: Callable[[Console], None]) -> str:
    """What a colour terminal is sent, and nothing but its own colours taken out."""
    file = io.StringIO()
    show(Console(file=file, force_terminal=True, color_system="truecolor", width=200))
    return re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())


@pytest.mark.parametrize(
    "show",
    [
        lambda to: show_table(to, of_records([{"a": HOSTILE}])),
        lambda to: show_table(to, of_records([{HOSTILE: "a"}])),
        lambda to: show_table(to, of_records([{"a": "a"}]), title=HOSTILE),
        lambda to: show_table(to, of_records([{"a": {"b": [HOSTILE]}}])),
        lambda to: say(to, HOSTILE, (HOSTILE, "bold")),
        lambda to: to.print(*benchmark_tables([{**ROW, "method": HOSTILE}])),
        lambda to: to.print(*benchmark_tables([{**ROW, "split": HOSTILE}])),
    ],
)
def test_data_is_printed_letter_by_letter_and_acts_on_nothing(show: Callable[[Console], None]) -> None:
    printed = shown(show)
    assert not [c for c in printed if unicodedata.category(c) in ("Cc", "Cf") and c != "\n"]
    assert "".join(SEEN.split()) in "".join(printed.split())  # a narrow table breaks its title over lines


@given(st.text())
def test_what_is_printable_stays_and_everything_else_can_be_seen(text: str) -> None:
    seen = printable(text)
    assert printable(seen) == seen
    assert all(unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in seen)
    if text.isprintable():
        assert seen == text


@given(st.none() | st.floats() | st.text() | st.binary() | st.decimals(-999, 999, places=2) | st.datetimes())
def test_every_value_is_json(value: object) -> None:
    table = pa.table({"a": pa.array([value]), "b": pa.array([[value]])})
    (row,) = json.loads(as_json(of_table(table)), parse_constant=pytest.fail)
    assert row == {"a": row["a"], "b": [row["a"]]}


def test_every_type_of_duckdb_is_json_and_a_table() -> None:
    answer = duckdb.connect().sql("from test_all_types()")
    shown = of_answer(answer, answer.columns)()
    objects = json.loads(as_json(shown), parse_constant=pytest.fail)
    assert len(objects) == len(answer) and list(objects[0]) == answer.columns
    assert (objects[0]["hugeint"], objects[1]["double_array"]) == (
        -(2**127),
        [42.0, "NaN", "Infinity", "-Infinity", None, -42.0],
    )
    console = Console(file=io.StringIO(), width=4000)
    show_table(console, shown)


def test_what_goes_by_arrow_or_not_is_the_same() -> None:
    connection = duckdb.connect()
    every = connection.sql("from test_all_types()")
    plain = [name for name, kind in zip(every.columns, every.types, strict=True) if kind.id in PLAIN]
    answer = connection.sql(f"select {', '.join(plain)}, null as nothing from test_all_types()")
    assert {kind.id for kind in answer.types} == PLAIN
    by_arrow = answer.select("* exclude uhugeint")  # Arrow says -1 for its largest
    assert as_json(of_answer(by_arrow, by_arrow.columns)()) == as_json(of_table(by_arrow.to_arrow_table()))
    largest = answer.project("max(uhugeint)")
    assert of_answer(largest, ["n"])().rows == [(2**128 - 1,)]
    assert of_answer(answer.limit(0), answer.columns)() == (answer.columns, [])


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
    look.query("select count(*)::int as n from runs", lake=lake.url, json_=True)
    look.status(lake=lake.url, json_=True)
    said = capsys.readouterr()
    counted, status = map(json.loads, said.out.splitlines())
    assert counted == [{"n": 0}]
    assert len(status["damaged"]) == 1 and name in status["damaged"][0]
    assert said.err.count("left out: ") == said.err.count(f"{lake.url}/{name} is no whole manifest") == 2


@pytest.mark.parametrize(("words", "code"), [(["--version"], 0), (["no-command"], 2)])
def test_a_thread_that_a_library_left_in_native_code_does_not_end_the_command(words: list[str], code: int) -> None:
    """Python takes such a thread down in the middle of C++, which aborts the process."""
    script = (
        "import sys, threading, duckdb, prefect; connection = duckdb.connect()\n"
        "def work():\n"
        "    while True: connection.execute('select sum(i) from range(100000) t(i)').fetchall()\n"
        "threading.Thread(target=work, daemon=True).start()\n"
        "from scot.cli import main; sys.argv[0] = 'scot'; main()"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == code and "terminate" not in done.stderr, done.stderr
