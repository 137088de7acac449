"""The hooks that plugins may implement, and the errors with their exit codes, from their own docstrings. Imports no torch."""

import inspect

from attrs import frozen

from dvgen import errors, hookspecs
from dvgen.explaining.signatures import Member, plain_function, record
from dvgen.registry import Component


@frozen(kw_only=True)
class Hooks:
    """The hooks, in the order of their file, and the records that they are given or return."""

    hooks: tuple[Member, ...]
    records: tuple[Member, ...]


@frozen(kw_only=True)
class ExitCode:
    """What a command leaves with. error: the class of dvgen.errors, empty where there is none."""

    code: int
    error: str
    meaning: str


def explained_hooks() -> Hooks:
    """Every hook of dvgen.hookspecs."""
    functions = [value for value in vars(hookspecs).values() if hasattr(value, "dvgen_spec")]
    return Hooks(
        hooks=tuple(map(plain_function, functions)),
        records=(record(Component), record(hookspecs.Run)),
    )


def exit_codes() -> list[ExitCode]:
    """Every exit code of the command line, in order."""
    raised = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.DvgenError)]
    told = [ExitCode(code=cls.exit_code, error=cls.__name__, meaning=_meaning(cls)) for cls in raised]
    silent = [
        ExitCode(code=0, error="", meaning="All went well."),
        ExitCode(code=130, error="", meaning="Interrupted, a run by a second Ctrl-C; finished checkpoints are kept."),
    ]
    return sorted([*told, *silent], key=lambda one: one.code)  # stable: within a code in the order of the file


def _meaning(cls: type[errors.DvgenError]) -> str:
    """The docstring on one line, without the code that it names."""
    return " ".join(inspect.cleandoc(cls.__doc__ or "").split()).replace(f" (exit code {cls.exit_code})", "")
