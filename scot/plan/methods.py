"""How far the comparison of methods is (`scot methods`), in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from scot_core.config import MethodsConfig
from scot_core.lake import Lake


def methods_left(lake: Lake) -> Iterator[str]:
    """For each benchmark of the lake what is measured, what `scot methods` would measure, and what lacks something."""
    from scot_core.stages.methods import outlook

    for one in outlook(lake, MethodsConfig()):
        yield f"on {one.benchmark}, measured: {', '.join(one.measured) or 'none'}"
        if one.to_do:
            yield f"on {one.benchmark}, to do (`scot methods`): {', '.join(one.to_do)}"
        yield from (f"{missing.method}: {missing.why} (`{missing.made_by}`)" for missing in one.missing)
