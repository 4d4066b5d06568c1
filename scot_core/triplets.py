"""Text of the triplets (§3.2, §4.2)."""

from __future__ import annotations


def local_prompt(caption: str) -> str:
    """Prompt of a local causal language model, tuned or not."""
    return f"caption: {caption}\nedit:"


def local_completion(modification: str, modified_caption: str) -> str:
    """What follows `local_prompt`; the end-of-sequence token comes after it."""
    return f" {modification}\n{modified_caption}"
