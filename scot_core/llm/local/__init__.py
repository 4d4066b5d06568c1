"""Language models loaded on this machine: 4-bit weights, LoRA, writing."""
