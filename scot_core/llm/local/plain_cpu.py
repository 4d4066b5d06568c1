"""Keeps bitsandbytes from setting itself up for what Scot does not use. Imported before anything imports bitsandbytes.

On a CPU with AVX512-BF16, bitsandbytes 0.50 asks a hub for a compiled kernel while it is being imported (and warns at
the terminal where it gets none), and its 4-bit layers compute in bfloat16. Nothing else can be told otherwise: the CPU
is asked in the middle of the import, once. On every machine, it loads torch's compiler for a second or more, for its
8-bit operations and optimizers on devices that have none of their own: Scot calls none of these, and they do without.
Where bitsandbytes was there before Scot this does nothing; `four_bits` holds all the same.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Final

SWITCH: Final = "TORCHDYNAMO_DISABLE"  # read where torch.compile is called


class _Uncompiled(SourceFileLoader):
    """Loads a module in which `torch.compile` returns what it was given."""

    def exec_module(self, module: ModuleType) -> None:
        before = os.environ.get(SWITCH)
        os.environ[SWITCH] = "1"
        try:
            super().exec_module(module)
        finally:
            del os.environ[SWITCH]
            if before is not None:
                os.environ[SWITCH] = before


class _AsOtherCPUs:
    """A finder that is asked just before a module is loaded, and leaves nearly all to those after it."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        if name == "bitsandbytes.backends.cpu.ops":
            setattr(import_module("bitsandbytes.functional"), "has_avx512bf16", lambda: False)  # noqa: B010 - no variable
        if name == "bitsandbytes.backends.default.ops":
            spec = PathFinder.find_spec(name, path)
            if spec is not None and isinstance(spec.loader, SourceFileLoader):
                spec.loader = _Uncompiled(name, spec.loader.path)
                return spec
        return None


sys.meta_path.insert(0, _AsOtherCPUs)
