"""How often words were seen, and which two of them together, of any number, in a fixed amount of memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from scot_core.triplets.neighbours import Words, mixed, word_hash

_BITS: Final = 27  # 16 MB: with ten million pairs, one in thirteen that were not seen is taken for seen
_WORD_BITS: Final = 20  # 4 MB
_MASK: Final = (1 << 64) - 1
_MIX: Final = 0xFF51AFD7ED558CCD


class Seen:
    """A table of one bit for each pair: what was added is always found, other pairs rarely."""

    def __init__(self) -> None:
        self._table = np.zeros(1 << (_BITS - 3), np.uint8)

    def add(self, first: Words, second: Words) -> None:
        """Pairs of words by their hashes, arrays (N,) uint64."""
        cells = mixed(mixed(first) + second) >> np.uint64(64 - _BITS)
        np.bitwise_or.at(self._table, cells >> np.uint64(3), np.uint8(1) << (cells & np.uint64(7)).astype(np.uint8))

    def __contains__(self, pair: tuple[str, str]) -> bool:
        first, second = pair
        cell = _mixed((_mixed(word_hash(first)) + word_hash(second)) & _MASK) >> (64 - _BITS)
        return bool(self._table[cell >> 3] >> (cell & 7) & 1)


class Times:
    """How often each word was seen, or more often where two words share a number."""

    def __init__(self) -> None:
        self._table = np.zeros(1 << _WORD_BITS, np.uint32)

    def add(self, words: Words) -> None:
        """Words by their hashes, an array (N,) uint64."""
        np.add.at(self._table, words >> np.uint64(64 - _WORD_BITS), np.uint32(1))

    def __getitem__(self, word: str) -> int:
        return int(self._table[word_hash(word) >> (64 - _WORD_BITS)])


def hashes(words: Sequence[str]) -> Words:
    """64 bits of each word."""
    return np.fromiter(map(word_hash, words), np.uint64, len(words))


def _mixed(value: int) -> int:
    """`neighbours.mixed` of one number."""
    value = ((value ^ (value >> 33)) * _MIX) & _MASK
    return value ^ (value >> 29)
