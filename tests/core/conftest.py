"""Tests of the core work on small tensors, which two threads only get in each other's way over."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
