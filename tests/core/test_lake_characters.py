"""How many characters a dataset's texts have: known when it is committed, and told without reading a row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scot_core.lake import Dataset, Identity, Lake, parts
from scot_core.lake.check import check
from scot_core.lake.manifest import MANIFEST
from scot_core.lake.schema import COLUMNS, texts_of
from scot_core.lake.sealed import sealed
from scot_core.query import query

Rows = Callable[..., dict[str, Any]]
Identify = Callable[..., Identity]
Commit = Callable[..., Dataset]
KNOWN = (
    """select rows_out::int as n, characters['modification']::int as characters from runs where "table" = 'triplets'"""
)
READ = "select count(*)::int as n, sum(length(modification))::int as characters from triplets"


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4), max_size=4))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_a_manifest_says_is_what_reading_says(
    tmp_path_factory: pytest.TempPathFactory, triplets: Rows, identify: Identify, texts: list[list[str]]
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    draft = lake.draft(identify())
    for index, of_part in enumerate(texts):
        draft.write_part(index, {**triplets(len(of_part)), "modification": of_part})
    draft = draft if len(texts) % 2 else lake.draft(identify())  # a run that was killed goes on in another process
    draft.commit(len(texts), rows_in=None)
    (known,) = query(lake, KNOWN).to_pylist()
    (read,) = query(lake, READ).to_pylist()
    assert (known["n"], known["characters"] or 0) == (read["n"], read["characters"] or 0)


def test_null_has_no_characters(lake: Lake, identify: Identify, commit: Commit) -> None:
    vector = pa.FixedSizeListArray.from_arrays(pa.array([0.5] * 4, pa.float32()), 2)
    two = {"item_id": ["a", "ü€"], "source": ["s"] * 2, "kind": ["text"] * 2, "encoder": ["e"] * 2, "vector": vector}
    for version, text, count in ((1, ["xyz", None], 3), (2, [None, None], 0)):
        made = commit(lake, identify("embeddings", version=version), {**two, "text": text})
        assert made.manifest.characters is not None
        assert (made.manifest.characters["text"], made.manifest.characters["item_id"]) == (count, 3)
    (newest,) = query(lake, "select characters['text']::int as n from runs where newest").to_pylist()
    assert newest == {"n": 0}


def test_a_manifest_without_the_figure_is_read_as_before(
    local_lake: Lake, triplets: Rows, identify: Identify, commit: Commit
) -> None:
    _forget(local_lake, commit(local_lake, identify(), triplets(3)))
    assert query(local_lake, KNOWN).to_pylist() == [{"n": 3, "characters": None}]
    assert query(local_lake, READ).to_pylist() == [{"n": 3, "characters": 36}]
    local_lake.write_views()
    assert check(local_lake).damages == ()


LESS_THAN_NONE = json.dumps(dict.fromkeys(texts_of("triplets"), -1)).encode()
OF_ANOTHER = LESS_THAN_NONE.replace(b"-1", b"7").replace(b"modification", b"}odification", 1)
NO_COUNTS = [LESS_THAN_NONE.replace(b"-1", count) for count in (b"1e00500", b"1e67", b"1.5", b"true", b"9" * 20)]


@pytest.mark.parametrize(
    "said", [None, b"{", b"[1]", b'{"caption": "many"}', b"null", b"{}", LESS_THAN_NONE, OF_ANOTHER, *NO_COUNTS]
)
def test_parts_of_the_first_scots_and_those_that_say_nonsense(
    local_lake: Lake, triplets: Rows, identify: Identify, said: bytes | None
) -> None:
    """A part that says nothing is kept, and the manifest says nothing; one that says nonsense is done again."""
    identity = identify()
    draft = local_lake.draft(identity)
    draft.write_part(0, triplets(3))
    path = Path(local_lake.url, identity.folder, "part-00000.parquet")
    table = pq.read_table(path)
    metadata = {parts.FOOTER_KEY: identity.fingerprint.encode()}
    pq.write_table(table.replace_schema_metadata(metadata | ({parts.CHARACTERS_KEY: said} if said else {})), path)
    draft = local_lake.draft(identity)
    assert draft.has_part(0) == (said is None)
    if said is None:
        assert draft.commit(1, rows_in=3).manifest.characters is None


def test_views_of_galleries_read_every_footer_only_where_older_ones_lack_a_column(
    local_lake: Lake, identify: Identify, commit: Commit
) -> None:
    names = [name for name in COLUMNS["galleries"] if name != "key"]
    rows = {name: [{"bytes": b"x", "path": "a.png"}] if name == "image" else [name] for name in names}
    commit(local_lake, identify("galleries", stage="captions"), rows)
    local_lake.write_views()
    assert b"union_by_name" not in local_lake.storage.read("views.sql")
    older = commit(local_lake, identify("galleries", stage="older"), rows)
    _forget(local_lake, older, "query")
    assert query(local_lake, "select query from galleries order by 1")["query"].to_pylist() == ["query", None]


def _forget(lake: Lake, dataset: Dataset, column: str | None = None) -> None:
    """Make it what a Scot wrote that counted no characters, and had no such column."""
    path = Path(lake.url, dataset.name)
    content = json.loads((path / MANIFEST).read_bytes())
    if column is not None:
        data = (path / "part-00000.parquet").read_bytes()
        table = pq.read_table(pa.BufferReader(data)).drop_columns([column])
        pq.write_table(table, path / "part-00000.parquet")
        content["parts"][0]["bytes"] = (path / "part-00000.parquet").stat().st_size
    del content["characters"], content["seal"]
    (path / MANIFEST).write_bytes(sealed(content))
