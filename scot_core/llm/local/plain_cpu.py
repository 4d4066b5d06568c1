"""Keeps bitsandbytes from setting itself up for CPUs with AVX512-BF16. Imported before anything imports bitsandbytes.

On such a CPU, bitsandbytes 0.50 asks a hub for a compiled kernel while it is being imported (and warns at the terminal
where it gets none), and its 4-bit layers compute in bfloat16. Nothing else can be told otherwise: the CPU is asked in
the middle of the import, once. Where bitsandbytes was there before Scot this does nothing; `four_bits` holds all the
same.
"""

from __future__ import annotations

import sys
from importlib import import_module


class _AsOtherCPUs:
    """A finder that finds nothing, but is asked just before the module that asks the CPU is loaded."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "bitsandbytes.backends.cpu.ops":
            setattr(import_module("bitsandbytes.functional"), "has_avx512bf16", lambda: False)  # noqa: B010 - no variable


sys.meta_path.insert(0, _AsOtherCPUs)
