"""Configuration of every stage, and the profiles that put them together.

Each stage has one frozen model. What changes a stage's result is part of its dataset's fingerprint; a field
marked `Execution` only says how the work is done (workers, time-outs) and is left out.
"""

from scot_core.config.base import EXECUTION, Config, Execution, StageConfig, validated
from scot_core.config.captions import (
    AboConfig,
    CaptionsConfig,
    CocoConfig,
    Flickr30kConfig,
    FolderConfig,
    PublishedPairs,
)
from scot_core.config.endpoints import TEACHER, EndpointConfig, ServerConfig
from scot_core.config.overrides import listed, with_overrides
from scot_core.config.profiles import PROFILES, STAGES, ProfileName, StageName, last_stage, profile
from scot_core.config.searle import DistillConfig, InvertConfig, PhrasesConfig
from scot_core.config.stages import (
    PUBLISHED,
    BenchmarkConfig,
    EmbedConfig,
    FinetuneConfig,
    FitConfig,
    GenerateConfig,
    MethodsConfig,
    Pipeline,
    PublishedConfig,
    SeedConfig,
    TrainConfig,
    TripletKind,
)

__all__ = [
    "EXECUTION",
    "PROFILES",
    "PUBLISHED",
    "STAGES",
    "TEACHER",
    "AboConfig",
    "BenchmarkConfig",
    "CaptionsConfig",
    "CocoConfig",
    "Config",
    "DistillConfig",
    "EmbedConfig",
    "EndpointConfig",
    "Execution",
    "FinetuneConfig",
    "FitConfig",
    "Flickr30kConfig",
    "FolderConfig",
    "GenerateConfig",
    "InvertConfig",
    "MethodsConfig",
    "PhrasesConfig",
    "Pipeline",
    "ProfileName",
    "PublishedConfig",
    "PublishedPairs",
    "SeedConfig",
    "ServerConfig",
    "StageConfig",
    "StageName",
    "TrainConfig",
    "TripletKind",
    "last_stage",
    "listed",
    "profile",
    "validated",
    "with_overrides",
]
