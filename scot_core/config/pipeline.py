"""A whole regeneration: the configurations of its stages, in their order."""

from __future__ import annotations

from scot_core.config.base import Config
from scot_core.config.captions import CaptionsConfig
from scot_core.config.encoding import EmbedConfig, FitConfig
from scot_core.config.measuring import BenchmarkConfig
from scot_core.config.searle import DistillConfig, InvertConfig
from scot_core.config.training import TrainConfig
from scot_core.config.writing import FinetuneConfig, GenerateConfig, SeedConfig
from scot_core.errors import ConfigError


class Pipeline(Config):
    """Everything a regeneration needs: one configuration a stage, in the order in which they run.

    Those of SEARLE's stages stand where they are asked for, that of fit is read where `embed.encoder` asks for it.
    """

    captions: CaptionsConfig = CaptionsConfig()
    """Captioned images (§4.1)."""
    invert: InvertConfig | None = None
    """SEARLE: images to pseudo-tokens; none leaves it out."""
    distill: DistillConfig | None = None
    """SEARLE, Pic2Word or LinCIR: the φ that gives pseudo-tokens; none leaves it out."""
    seed: SeedConfig = SeedConfig()
    """Triplets from a strong model (§4.2)."""
    finetune: FinetuneConfig = FinetuneConfig()
    """The language model that is tuned on them (§4.2)."""
    generate: GenerateConfig = GenerateConfig()
    """Triplets for every caption, by the tuned model (§4.2)."""
    fit: FitConfig = FitConfig()
    """The encoder that is fitted to the captions, where `embed.encoder` asks for it."""
    embed: EmbedConfig = EmbedConfig()
    """Frozen encoders (§3.1)."""
    train: TrainConfig = TrainConfig()
    """The Combiner (§3.2-3.3)."""
    benchmark: BenchmarkConfig = BenchmarkConfig()
    """What it is measured on (§4.3)."""

    @property
    def stages(self) -> tuple[str, ...]:
        """Those that are asked for, in the order in which they run."""
        left_out = () if self.embed.is_to_fit else ("fit",)
        return tuple(n for n in type(self).model_fields if getattr(self, n) is not None and n not in left_out)

    def asking_for(self, stage: str | None = None) -> Pipeline:
        """With the stage, where it stands only where it is asked for, and with what it cannot do without.

        Raises ConfigError for SEARLE's stages with an encoder that is to be fitted, whose text tower reads no
        pseudo-tokens.
        """
        missing: dict[str, Config] = {}
        if stage in OPTIONAL and getattr(self, stage) is None:
            missing[stage] = OPTIONAL[stage]()
        distill = missing.get("distill", self.distill)
        if isinstance(distill, DistillConfig) and distill.method == "searle" and self.invert is None:
            missing["invert"] = InvertConfig()
        if self.embed.is_to_fit and (missing or self.invert or self.distill):
            raise ConfigError(
                "invert and distill need a text tower that reads pseudo-tokens, and embed.encoder=fitted has none "
                "of that kind: take clip-b32, clip-l14 or catalogue, or leave these stages out"
            )
        return self.model_copy(update=missing) if missing else self


OPTIONAL: dict[str, type[Config]] = {"invert": InvertConfig, "distill": DistillConfig}
"""Stages that a pipeline may leave out."""
