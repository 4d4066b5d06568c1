"""What the environment says: where the lake is and the secrets. Nothing here enters a fingerprint."""

from __future__ import annotations

from functools import lru_cache

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Environment variables `SCOT_LAKE`, `SCOT_WEIGHTS`, `SCOT_DATA`, `SCOT_RAY`, `SCOT_RAY_GPUS`,
    `SCOT_API_KEY`."""

    model_config = SettingsConfigDict(env_prefix="SCOT_", extra="ignore")

    lake: str = "./lake"
    weights: str = "./weights"  # encoders of one's own, in folders of their names
    data: str = "./data"  # published benchmarks, in folders of their names
    ray: str = ""  # address of a Ray cluster that does the shards of captions, generate and embed: auto, or HOST:PORT
    ray_gpus: dict[str, float] = Field(default_factory=dict)  # of each of its actors, by stage: {"embed": 0.5}
    api_key: SecretStr = SecretStr("")


@lru_cache(maxsize=1)
def settings() -> Settings:
    return Settings()
