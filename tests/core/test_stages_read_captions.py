"""Captioned images into the lake: every entry becomes a caption or a reject, and every image is stored once."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scot_core.config import CaptionsConfig
from scot_core.errors import ConfigError, DataError
from scot_core.lake import Dataset, Lake
from scot_core.lake.manifest import Rows
from scot_core.lake.schema import pair_id
from scot_core.report.images import images_of
from scot_core.stages import recipes
from scot_core.stages.captions.read import ReadCaptions
from tests import captioned
from tests.captioned import CAPTIONS, picture
from tests.running import run_here

ROWS = [
    ("red.png", "a red square"),
    ("red.png", "the same picture, other words"),
    ("red.png", "a  red square "),
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
    "image_empty": 1,
    "image_broken": 1,
    "image_outside_folder": 1,
    "empty_caption": 1,
    "caption_too_long": 1,
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    data = picture("red", "PNG")
    for name, content in (("red.png", data), ("torn.png", data[:50]), ("empty.jpg", b"")):
        (folder / name).write_bytes(content)
    (tmp_path / "outside.png").write_bytes(data)
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


def _own(lake: Path, table: Path | str, **settings: Any) -> ReadCaptions:
    config = {"source": "folder", "path": str(table), "shard_rows": 4, "workers": 2, **settings}
    return ReadCaptions(Lake(lake), CaptionsConfig.model_validate(config))


def _reasons(rejects: Dataset) -> dict[str, int]:
    return dict(Counter(rejects.read()["reason"].to_pylist()))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_in_are_captions_and_rejects(tmp_path: Path, photos: Path, suffix: str) -> None:
    ticks: list[int] = []
    rejects, captions = run_here(_own(tmp_path / "lake", _write(photos, suffix)), ticks.append).values()
    assert captions.manifest.rows == Rows(given=len(ROWS), out=2, rejected=len(ROWS) - 2)
    assert sum(ticks) == len(ROWS)
    assert _reasons(rejects) == REASONS
    assert rejects.fingerprint == captions.fingerprint
    first, second = captions.read().to_pylist()
    assert first["image"] == {"bytes": (photos / "red.png").read_bytes(), "path": "red.png"}
    assert second["image"] == {"bytes": None, "path": "red.png"}
    assert first["source"] == captions.source == "own-photos"
    assert first["pair_id"] == pair_id("own-photos", "red.png", "a red square")


def test_the_same_table_elsewhere_is_the_same_dataset_and_a_changed_one_another(tmp_path: Path, photos: Path) -> None:
    table = _write(photos, ".csv")
    before = _own(tmp_path / "lake", table).outputs["captions"].key
    moved = shutil.copytree(photos, tmp_path / "elsewhere" / "photos")
    assert _own(tmp_path / "lake", moved / "captions.csv", workers=5).outputs["captions"].key == before
    table.write_text(table.read_text() + '\nred.png,"one more"\n')
    assert _own(tmp_path / "lake", table).outputs["captions"].key != before


def _published(root: Path, source: str = "paper", **settings: Any) -> CaptionsConfig:
    """All three data sets under one folder, and what is to be read of them."""
    if not root.exists():
        captioned.coco(root / "coco")
        captioned.flickr30k(root / "flickr30k")
        captioned.abo(root / "abo", *captioned.products(20))
    content: dict[str, Any] = {"source": source, "shard_rows": 5, "workers": 2, **settings}
    for name in ("coco", "flickr30k", "abo"):
        content[name] = {**content.get(name, {}), "root": str(root / name)}
    return CaptionsConfig.model_validate(content)


def test_the_papers_three_sources_in_one_dataset(tmp_path: Path) -> None:
    config = _published(tmp_path / "data", coco={"count": 12}, flickr30k={"count": 8}, abo={"count": 15})
    pictures = recipes.captions(run_here, Lake(tmp_path / "lake"), config)
    captions = pictures.captions
    assert pictures.galleries is None and captions.source == "paper"
    rows = captions.read().to_pylist()
    assert Counter(row["source"] for row in rows) == {"coco": 12, "flickr30k": 8, "abo": 15}
    assert all(row["image_id"].startswith(f"{row['source']}/") for row in rows)
    assert all(row["pair_id"] == pair_id(row["source"], row["image_id"], row["caption"]) for row in rows)
    assert len({row["pair_id"] for row in rows}) == 35


def test_an_image_is_stored_once_with_the_first_of_its_captions(tmp_path: Path) -> None:
    captioned.coco(tmp_path / "data" / "coco")
    config = _published(tmp_path / "data", "coco")
    captions = run_here(ReadCaptions(Lake(tmp_path / "lake"), config))["captions"]
    seen: list[str] = []
    for part in captions.read_parts():
        for image_id, several in groupby(part.to_pylist(), key=lambda row: row["image_id"]):
            first, *others = several
            seen.append(image_id)
            assert first["image"]["bytes"] and all(row["image"]["bytes"] is None for row in others)
            assert {row["image"]["path"] for row in others} == {first["image"]["path"]}
    assert sorted(seen) == [f"coco/{number:012d}" for number in CAPTIONS]  # none in two parts, or twice in one
    assert len(captions.parts) == 3  # of 6, the first number of rows over 5 that does not split an image
    assert images_of(captions, seen[2:4]).keys() == set(seen[2:4])


def test_one_caption_an_image(tmp_path: Path) -> None:
    settings = [_published(tmp_path / "data", captions_per_image=which) for which in ("all", "one")]
    everything, one = (run_here(ReadCaptions(Lake(tmp_path / "lake"), each))["captions"] for each in settings)
    assert (everything.rows, one.rows) == (18 + 18 + 20, 6 + 6 + 20)
    assert everything.key != one.key


def test_settings_of_other_sources_do_not_change_a_dataset(tmp_path: Path) -> None:
    def key(source: str = "coco", **settings: Any) -> str:
        lake = Lake(tmp_path / "lake")
        return ReadCaptions(lake, _published(tmp_path / "data", source, **settings)).outputs["captions"].key

    assert key(abo={"count": 3}, flickr30k={"count": 3}, count=7, workers=9) == key()
    keys = [key(), key(coco={"count": 3}), key(seed=1), key(shard_rows=6), key(captions_per_image="one")]
    assert len(set(keys)) == len(keys)
    assert key("paper", abo={"count": 3}) != key("paper")


def test_a_run_that_was_stopped_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    config = _published(tmp_path / "data")
    whole = run_here(ReadCaptions(Lake(tmp_path / "one"), config))["captions"]
    with ReadCaptions(Lake(tmp_path / "two"), config) as step:
        assert step.run(1, lambda _: None)
    folder = tmp_path / "two" / "captions" / whole.key
    assert (folder / "_work" / "spool.parquet").is_file()
    captions = run_here(ReadCaptions(Lake(tmp_path / "two"), config))["captions"]
    assert captions.parts == whole.parts
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["_manifest.json", *(part.name for part in captions.parts)]
    )


def test_broken_images_reject_all_of_their_captions(tmp_path: Path) -> None:
    config = _published(tmp_path / "data", "flickr30k")
    folder = tmp_path / "data" / "flickr30k" / "flickr30k-images"
    (folder / "1002.jpg").write_bytes(b"")
    (folder / "1004.jpg").unlink()
    (folder / "1005.jpg").write_bytes((folder / "1005.jpg").read_bytes()[:-60])
    (folder / "1006.jpg").write_bytes(captioned.gif())
    rejects, captions = run_here(ReadCaptions(Lake(tmp_path / "lake"), config)).values()
    assert captions.manifest.rows == Rows(given=18, out=9, rejected=9)
    assert _reasons(rejects) == {"image_empty": 3, "image_missing": 3, "image_broken": 3}
    rows = rejects.read().to_pylist()
    assert {(row["stage"], row["tries"], row["source"]) for row in rows} == {("captions", 1, "flickr30k")}
    assert {row["raw"].split(":")[0] for row in rows} == {"1002.jpg", "1004.jpg", "1005.jpg"}


def test_where_no_entry_has_its_image_nothing_is_committed_and_the_next_run_looks_again(tmp_path: Path) -> None:
    config = _published(tmp_path / "data", "coco")
    images = tmp_path / "data" / "coco" / "train2017"
    kept = shutil.copytree(images, tmp_path / "kept")
    for path in images.iterdir():
        path.unlink()
    lake = Lake(tmp_path / "lake")
    with pytest.raises(DataError, match=r"not one of 18 entries .*\(image_missing 18\); look at captions\.coco\.root"):
        run_here(ReadCaptions(lake, config))
    shutil.copytree(kept, images, dirs_exist_ok=True)
    captions = run_here(ReadCaptions(lake, config))["captions"]
    assert captions.rows == 18


def test_what_is_missing_is_said_before_annotations_are_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"captions\.path"):
        ReadCaptions(Lake(tmp_path / "lake"), CaptionsConfig(source="folder"))
    with pytest.raises(DataError, match="there is no file"):
        _ = _own(tmp_path / "lake", tmp_path / "none.csv").outputs
    config = _published(tmp_path / "data", "coco")
    shutil.rmtree(tmp_path / "data" / "coco" / "train2017")
    with pytest.raises(DataError, match=r"coco/train2017 is missing; captions\.coco\.root"):
        _ = ReadCaptions(Lake(tmp_path / "lake"), config).shards()


def test_captions_and_lake_on_an_object_store(tmp_path: Path, photos: Path) -> None:
    _write(photos, ".csv")
    fs = fsspec.filesystem("memory")
    fs.put(str(photos), "/bucket/photos", recursive=True)
    config = CaptionsConfig(source="folder", path="memory://bucket/photos/captions.csv", shard_rows=4)
    there = run_here(ReadCaptions(Lake("memory://bucket/lake"), config))["captions"]
    here = run_here(_own(tmp_path / "lake", photos / "captions.csv"))["captions"]
    assert there.read().equals(here.read())
    assert there.key == here.key


def test_a_table_without_rows_is_an_error(tmp_path: Path, photos: Path) -> None:
    (photos / "none.csv").write_text("image,caption\n")
    with pytest.raises(DataError, match=r"not one of 0 entries .*there are none.*captions\.path"):
        run_here(_own(tmp_path / "lake", photos / "none.csv"))
