"""The grid: every combination of what was listed, one experiment each."""

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dvgen.errors import ConfigError
from dvgen.experiment import Experiment

Put = Callable[[dict[str, Any], str, str], None]
Finish = Callable[[dict[str, Any]], Experiment]


def expand(base: Mapping[str, Any], axes: Mapping[str, Sequence[str]], put: Put, finish: Finish) -> list[Experiment]:
    """Every combination of the axes' values put into the base tables, in the order given, each checked and resolved.

    Raises ConfigError when a value is listed twice, or with all the faults of all combinations.
    """
    for box, values in axes.items():
        twice = [value for i, value in enumerate(values) if value in values[:i]]
        if twice:
            raise ConfigError(f"--{box.replace('_', '-')}: {twice[0]!r} is listed twice")
    experiments: list[Experiment] = []
    faults: dict[str, list[str]] = {}
    combinations = list(itertools.product(*axes.values()))
    for combination in combinations:
        table = copy.deepcopy(dict(base))
        try:
            for box, value in zip(axes, combination, strict=True):
                put(table, box, value)
            experiments.append(finish(table))
        except ConfigError as error:
            for fault in str(error).splitlines():
                faults.setdefault(fault, []).append(_called(axes, combination))
    if faults:
        raise ConfigError("\n".join(_told(fault, where, len(combinations)) for fault, where in faults.items()))
    return experiments


def _called(axes: Mapping[str, Sequence[str]], combination: Sequence[str]) -> str:
    """A combination by the values of those axes that have several."""
    several = [(box, value) for (box, values), value in zip(axes.items(), combination, strict=True) if len(values) > 1]
    return " ".join(f"--{box.replace('_', '-')} {value}" for box, value in several)


def _told(fault: str, where: Sequence[str], combinations: int) -> str:
    """A fault, and which combinations have it unless all have."""
    if len(where) == combinations:
        return fault
    more = f" and {len(where) - 1} more" if len(where) > 1 else ""
    return f"{fault} (with {where[0]}{more})"
