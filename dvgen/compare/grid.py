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
    experiments, faults = [], []
    for combination in itertools.product(*axes.values()):
        table = copy.deepcopy(dict(base))
        try:
            for box, value in zip(axes, combination, strict=True):
                put(table, box, value)
            experiments.append(finish(table))
        except ConfigError as error:
            faults += str(error).splitlines()
    if faults:
        raise ConfigError("\n".join(dict.fromkeys(faults)))
    return experiments
