"""What every configuration is: frozen, checked, and with an identity that enters fingerprints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scot_core.errors import ConfigError

EXECUTION = "execution"
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


def Execution(default: Any, **constraints: Any) -> Any:  # noqa: N802 - reads as pydantic's Field
    """A field that says how work is done, not what comes out: not part of any fingerprint."""
    return Field(default, json_schema_extra={EXECUTION: True}, **constraints)


class Config(BaseModel):
    """Base of every configuration: frozen, no unknown keys, no number that JSON cannot write.

    The sentence under a field is its help text in forms, JSON schemas and errors.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    def identity(self) -> dict[str, Any]:
        """What enters the fingerprint: all but the fields marked `Execution`, nested ones too."""
        content: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            extra = field.json_schema_extra
            if isinstance(extra, dict) and extra.get(EXECUTION):
                continue
            value = getattr(self, name)
            content[name] = value.identity() if isinstance(value, Config) else value
        return content


class StageConfig(Config):
    """Configuration of one stage; STAGE_VERSION grows when the stage's code changes what it writes."""

    STAGE_VERSION: ClassVar[int] = 1


C = TypeVar("C", bound=Config)


def validated(model: type[C], content: Mapping[str, Any]) -> C:
    """A configuration from plain values. Raises ConfigError naming each value that does not fit."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors())
        raise ConfigError(f"the configuration does not fit: {problems}") from error
