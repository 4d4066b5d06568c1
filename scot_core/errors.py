"""The few kinds of failure a user of Scot meets.

Every message says what is wrong, where, and what to do about it, in one or two lines: the command line
prints it as it stands, without a traceback.
"""

from __future__ import annotations


class ScotError(Exception):
    """Base of every error Scot raises on purpose."""


class ConfigError(ScotError):
    """A profile, stage, key or value that does not exist or does not fit (exit code 2)."""


class LakeError(ScotError):
    """A lake that cannot be written, or whose files are not what their manifest says."""


class DataError(ScotError):
    """Input data that cannot be used: annotations, images, captions."""


class EndpointError(ScotError):
    """A language-model endpoint that is down, refuses, or answers what it must not."""


class GateError(ScotError):
    """A share, a score or an amount of money that the configuration asks for is missed; what was made is kept."""


class BudgetReached(EndpointError, GateError):
    """The configured amount of money is spent; what was paid for is kept."""


class ModelError(ScotError):
    """Weights, quantisation or an optional package that is not there or not what it must be."""


class ShapeError(ScotError, ValueError):
    """Arrays whose shape, dtype or device do not fit together; the message names both sides."""
