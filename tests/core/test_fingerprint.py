"""Identity of datasets: golden values, what changes them, and how keys look."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scot_core.lake.fingerprint import canonical_json, digest, fingerprint, key_of
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
