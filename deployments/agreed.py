"""What the parts of a service agree on. It imports nothing: `make serve` starts its server at once."""

from __future__ import annotations

# Flow runs that a pool takes at once. One GPU holds one model at a time; more GPUs, a higher limit. `scot-cpu` has
# none: a `scot/regenerate` over deployments waits there for stages that run in the same pool.
POOLS: dict[str, int | None] = {"scot-cpu": None, "scot-gpu": 1, "scot-lavis": 1}
HEARTBEAT_S = 30  # PREFECT_FLOWS_HEARTBEAT_FREQUENCY of the workers
