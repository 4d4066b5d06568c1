"""A pytest plugin: bitsandbytes is there before Scot, on a CPU with AVX512-BF16 (PRETENDED_BF16=1) or without (0)."""

import gc
import os

gc.disable()  # until all tests are imported

from bitsandbytes.cextension import lib  # noqa: E402

setattr(lib, "has_avx512bf16_cpu", lambda: int(os.environ["PRETENDED_BF16"]))  # noqa: B010 - a C library has no such name for a type checker
