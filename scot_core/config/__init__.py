"""Configuration of every stage, and the profiles that put them together.

Each stage has one frozen model. What changes a stage's result is part of its dataset's fingerprint; a field
marked `Execution` only says how the work is done (workers, time-outs) and is left out.

A module is loaded when something of it is asked for: whoever wants `settings` alone waits for no model.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from scot_core.config.base import EXECUTION, Config, Execution, StageConfig, validated
    from scot_core.config.captions import (
        AboConfig,
        CaptionsConfig,
        CocoConfig,
        Flickr30kConfig,
        FolderConfig,
        PublishedPairs,
    )
    from scot_core.config.encoding import EmbedConfig, FitConfig
    from scot_core.config.endpoints import TEACHER, EndpointConfig, ServerConfig
    from scot_core.config.measuring import PUBLISHED, BenchmarkConfig, MethodsConfig, PublishedConfig
    from scot_core.config.overrides import listed, with_overrides
    from scot_core.config.pipeline import Pipeline
    from scot_core.config.profiles import PROFILES, STAGES, ProfileName, StageName, last_stage, profile
    from scot_core.config.searle import DistillConfig, InvertConfig, PhrasesConfig
    from scot_core.config.training import TrainConfig
    from scot_core.config.writing import FinetuneConfig, GenerateConfig, SeedConfig, TripletKind

_OF: Final = {
    "base": (
        "EXECUTION",
        "Config",
        "Execution",
        "StageConfig",
        "validated",
    ),
    "captions": (
        "AboConfig",
        "CaptionsConfig",
        "CocoConfig",
        "Flickr30kConfig",
        "FolderConfig",
        "PublishedPairs",
    ),
    "endpoints": (
        "TEACHER",
        "EndpointConfig",
        "ServerConfig",
    ),
    "overrides": (
        "listed",
        "with_overrides",
    ),
    "profiles": (
        "PROFILES",
        "STAGES",
        "ProfileName",
        "StageName",
        "last_stage",
        "profile",
    ),
    "searle": (
        "DistillConfig",
        "InvertConfig",
        "PhrasesConfig",
    ),
    "encoding": (
        "EmbedConfig",
        "FitConfig",
    ),
    "measuring": (
        "PUBLISHED",
        "BenchmarkConfig",
        "MethodsConfig",
        "PublishedConfig",
    ),
    "pipeline": ("Pipeline",),
    "training": ("TrainConfig",),
    "writing": (
        "FinetuneConfig",
        "GenerateConfig",
        "SeedConfig",
        "TripletKind",
    ),
}
_MODULES: Final = {name: module for module, names in _OF.items() for name in names}

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


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value
