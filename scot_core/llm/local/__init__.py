"""Language models loaded on this machine: 4-bit weights, LoRA, writing."""

from scot_core.llm.local import plain_cpu  # noqa: F401 - before anything in this room imports bitsandbytes
