"""The errors a user can meet, each with the exit code of the command line.

A message says what was wrong, with which input, what was expected and what to do next.
"""


class DvgenError(Exception):
    """Something failed (exit code 1)."""

    exit_code = 1


class ShapeError(DvgenError):
    """A tensor has a shape or a value that the receiver cannot take (exit code 1)."""


class ConfigError(DvgenError):
    """A command line, a config file or the choice of a component is at fault (exit code 2)."""

    exit_code = 2


class DataError(DvgenError):
    """Data, a run folder or a weights file is missing or unusable (exit code 3)."""

    exit_code = 3


class IntegrityError(DvgenError):
    """A checkpoint, a cache, a lock or a likelihood contradicts itself (exit code 4)."""

    exit_code = 4


class PluginError(DvgenError):
    """A plugin is broken or breaks a rule, or two plugins supply one name (exit code 5)."""

    exit_code = 5


class NonFiniteError(DvgenError):
    """A loss or a gradient is NaN or infinite (exit code 6)."""

    exit_code = 6


class IncomparableError(DvgenError):
    """Two measurements with different protocols were ranked (exit code 7)."""

    exit_code = 7


class Stopped(DvgenError):
    """The run was asked to stop, saved its state and can be resumed (exit code 75)."""

    exit_code = 75
