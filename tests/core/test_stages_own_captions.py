"""One's own captioned images: every entry becomes a caption or a reject with its reason."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from scot_core.config import CaptionsConfig
from scot_core.errors import ConfigError, DataError
from scot_core.lake import Lake
from scot_core.stages.own_captions import ReadFolder
from scot_core.stages.step import run_here

ROWS = [
    ("red.png", "a red square"),
    ("red.png", "the same picture, other words"),
    ("red.png", "a red square"),
    ("gone.png", "no such file"),
    ("empty.jpg", "a file of no bytes"),
    ("torn.png", "half a picture"),
    ("../outside.png", "not in the folder"),
    ("red.png", "   "),
    ("red.png", "x" * 5000),
]
REASONS = {
    "duplicate_pair": 1,
    "image_missing": 1,
    "image_broken": 2,
    "image_outside_folder": 1,
    "empty_caption": 1,
    "caption_too_long": 1,
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(buffer, "PNG")
    (folder / "red.png").write_bytes(buffer.getvalue())
    (folder / "torn.png").write_bytes(buffer.getvalue()[:60])
    (folder / "empty.jpg").write_bytes(b"")
    (tmp_path / "outside.png").write_bytes(buffer.getvalue())
    return folder


def _write(folder: Path, suffix: str) -> Path:
    table = folder / f"captions{suffix}"
    if suffix == ".csv":
        lines = ["image,caption", *(f'{image},"{caption}"' for image, caption in ROWS)]
        table.write_text("\n".join(lines), encoding="utf-8-sig")
    elif suffix == ".jsonl":
        table.write_text("\n".join(json.dumps({"image": i, "caption": c}) for i, c in ROWS))
    else:
        pq.write_table(pa.table({"image": [i for i, _ in ROWS], "caption": [c for _, c in ROWS]}), table)
    return table


def _step(lake: Path, table: Path, shard_rows: int = 4) -> ReadFolder:
    return ReadFolder(Lake(lake), CaptionsConfig(source="folder", path=str(table), shard_rows=shard_rows))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_in_are_captions_and_rejects(tmp_path: Path, photos: Path, suffix: str) -> None:
    rejects, captions = run_here(_step(tmp_path / "lake", _write(photos, suffix)))
    assert captions.manifest["rows"] == {"in": len(ROWS), "out": 2, "rejected": len(ROWS) - 2}
    reasons = rejects.read()["reason"].to_pylist()
    assert {reason: reasons.count(reason) for reason in reasons} == REASONS
    row = captions.read().to_pylist()[0]
    assert row["image"] == {"bytes": (photos / "red.png").read_bytes(), "path": "red.png"}
    assert row["source"] == "own-photos" and len(row["pair_id"]) == 32


def test_a_changed_table_is_another_dataset(tmp_path: Path, photos: Path) -> None:
    table = _write(photos, ".csv")
    before = _step(tmp_path / "lake", table).outputs[-1].key
    table.write_text(table.read_text() + '\nred.png,"one more"\n')
    assert _step(tmp_path / "lake", table).outputs[-1].key != before


def test_a_table_that_cannot_be_used_is_named(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(ConfigError, match=r"captions\.path"):
        ReadFolder(Lake(tmp_path / "lake"), CaptionsConfig(source="folder"))
    with pytest.raises(DataError, match="there is no file"):
        _ = _step(tmp_path / "lake", photos / "none.csv").outputs
    with pytest.raises(DataError, match=r"not one of \.csv"):
        _ = _step(tmp_path / "lake", photos / "captions.xlsx").outputs
    (photos / "other.csv").write_text("file,text\na,b\n")
    with pytest.raises(DataError, match="row 1: no column image or caption; there is file, text"):
        _ = _step(tmp_path / "lake", photos / "other.csv").outputs
    (photos / "half.jsonl").write_text('{"image": "red.png", "cap')
    with pytest.raises(DataError, match="cannot be read"):
        _ = _step(tmp_path / "lake", photos / "half.jsonl").outputs
