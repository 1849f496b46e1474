"""Errors that a user can cause. Each message names the thing, what was got, what was wanted and, where it helps, the fix."""


class UserError(Exception):
    """Base of every error a user can cause; the command line prints its message without a traceback."""


class ConfigError(UserError):
    """A config file, key, value or combination that is not allowed."""


class DataError(UserError):
    """Text, tokens or a tokenizer that cannot be used."""


class WeightsError(UserError):
    """A weights file or folder that is damaged, hostile, or does not match the model."""


class CheckpointError(UserError):
    """A training checkpoint that cannot be written, found or trusted."""


class RunLockedError(UserError):
    """Another process is using the run folder."""


class NonFiniteError(UserError):
    """Training met a loss or a gradient norm that is not a finite number."""
