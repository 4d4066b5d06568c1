"""Identity of datasets: golden values, what changes them, and how keys look."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scot_core.lake.fingerprint import canonical_json, digest, files_digest, fingerprint, key_of, stream_digest
from scot_core.lake.schema import pair_id, text_id

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
CONFIGS = st.dictionaries(st.text(max_size=4), JSON, max_size=4)


def _blake2b(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def test_a_fingerprint_is_blake2b_of_canonical_json() -> None:
    by_hand = '{"config":{"a":[1,2],"é":0.5},"inputs":["x","y"],"stage":"seed","version":3}'
    assert fingerprint("seed", 3, {"é": 0.5, "a": (1, 2)}, ["x", "y"]) == _blake2b(by_hand)
    assert fingerprint("seed", 1, {}, []) == _blake2b('{"config":{},"inputs":[],"stage":"seed","version":1}')


def test_ids_are_blake2b_over_separated_parts() -> None:
    assert pair_id("coco", "000139", "a cat") == _blake2b("coco\x1f000139\x1fa cat")
    assert text_id("a cat") == _blake2b("a cat")
    assert pair_id("a", "bc", "d") != pair_id("ab", "c", "d")
    assert len(pair_id("coco", "1", "\ud800")) == 32  # half a surrogate pair is a caption, too
    assert digest(b"") == "cae66941d9efbd404e4d88758ea67670"


def test_files_are_read_whole_and_again_when_they_change(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.bin", "b.bin")]
    for path, data in zip(paths, (b"x" * 3_000_000, b""), strict=True):
        path.write_bytes(data)
    contents = [hashlib.blake2b(path.read_bytes(), digest_size=16).digest() for path in paths]
    assert stream_digest(io.BytesIO(b"x" * 3_000_000)) == contents[0].hex()
    assert files_digest(paths, named=False) == digest(b"".join(contents))
    assert files_digest(paths, named=True) == digest(b"a.bin\0" + contents[0] + b"b.bin\0" + contents[1])
    paths[1].write_bytes(b"y")
    assert files_digest(paths, named=False) == digest(contents[0] + hashlib.blake2b(b"y", digest_size=16).digest())


@settings(max_examples=25, deadline=None)
@given(CONFIGS)
def test_the_order_of_keys_does_not_matter(config: dict[str, Any]) -> None:
    turned = dict(reversed(config.items()))
    assert canonical_json(config) == canonical_json(turned)
    assert fingerprint("seed", 1, config, []) == fingerprint("seed", 1, turned, [])


def test_everything_that_enters_changes_it() -> None:
    base: tuple[Any, ...] = ("seed", 1, {"a": 1}, ["x", "y"])
    others = [
        ("embed", 1, {"a": 1}, ["x", "y"]),
        ("seed", 2, {"a": 1}, ["x", "y"]),
        ("seed", 1, {"a": 2}, ["x", "y"]),
        ("seed", 1, {"a": "1"}, ["x", "y"]),
        ("seed", 1, {"a": 1, "b": None}, ["x", "y"]),
        ("seed", 1, {"a": 1}, ["y", "x"]),
        ("seed", 1, {"a": 1}, ["xy"]),
    ]
    assert len({fingerprint(*arguments) for arguments in [base, *others]}) == len(others) + 1


def test_a_number_that_json_cannot_write_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        fingerprint("train", 1, {"margin": float("nan")}, [])


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=12), CONFIGS)
def test_a_key_is_one_folder_name_that_nothing_reads_as_a_number(prefix: str, config: dict[str, Any]) -> None:
    identity = fingerprint("seed", 1, config, [])
    key = key_of(prefix, identity)
    assert re.fullmatch(r"[A-Za-z0-9-][A-Za-z0-9._-]*-[0-9a-f]{12}", key)
    assert key.endswith(identity[:12])


def test_a_readable_prefix_stays_as_it_is() -> None:
    assert key_of("catalogue-seed", "0123456789abcdef") == "catalogue-seed-0123456789ab"
    assert key_of("own=shop/2024's", "0123456789abcdef") == "own-shop-2024-s-0123456789ab"
    assert key_of("..", "0123456789abcdef") == "x-0123456789ab"
