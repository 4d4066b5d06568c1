"""The key of an endpoint: SCOT_API_KEY of the environment, else the Prefect Secret block `scot-api-key`.

It is handed over in memory: never a parameter of a flow, so never in Prefect's database, and never logged.
"""

from __future__ import annotations

from prefect.blocks.system import Secret
from pydantic import SecretStr

from scot_core.config import ServerConfig
from scot_core.config.settings import settings

BLOCK = "scot-api-key"


def api_key(server: ServerConfig) -> SecretStr:
    """The key for a server; empty where there is none to be had, or nobody to ask."""
    own = settings().api_key
    if own.get_secret_value() or not server.base_url:
        return own
    try:
        block = Secret.load(BLOCK)
    except ValueError:  # there is no such block
        return own
    assert isinstance(block, Secret), "no coroutine where no event loop runs"
    return SecretStr(str(block.get()))
