"""Priors of equal size: the widths at which all priors of a comparison have as many parameters as the first."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from attrs import define, evolve, field, frozen

from dvgen.assembly import component_config
from dvgen.code_model import assemble_code_model
from dvgen.compare.opening import Openings, codes_of, opening_name
from dvgen.config import canonical, unstructure
from dvgen.errors import ConfigError
from dvgen.experiment import Experiment
from dvgen.interfaces.codes import Level
from dvgen.registry import Registry
from dvgen.training.outline import parameters
from dvgen.training.session import Session
from dvgen.training.tokenizer import tokenizer_config

TOLERANCE = 0.05
"""Share of the first prior's parameters by which another may differ from it."""
_WIDEST = 1024.0
_HALVINGS = 24
"""Of the interval between two widths, a factor of two apart at first: no two channels of a million share what is left."""

CodesOf = Callable[[Experiment], tuple[tuple[Level, ...], int]]
"""The levels of an experiment's codes, and the number of classes of its data."""


def match_parameters(registry: Registry, experiments: Sequence[Experiment], codes: CodesOf) -> list[Experiment]:
    """The experiments with the widths of their priors chosen so that trainable parameters agree within TOLERANCE.

    Among experiments that share a tokenizer, the first stays as it is and the others are matched to it, each as closely as
    `Prior.scaled` can. All parameters count, of embeddings and outputs too, and of an experiment with a prior for each level
    those of all levels, which are scaled by one factor. Raises ConfigError, with a line for each, when some cannot be matched.
    """
    groups: dict[str, _Reference] = {}
    matched: list[Experiment] = []
    faults: list[str] = []
    for experiment in experiments:
        group = canonical(tokenizer_config(experiment))
        if group not in groups:
            groups[group] = _Reference(experiment, prior_parameters(registry, experiment, *codes(experiment)))
            matched.append(experiment)
            continue
        try:
            matched.append(_Search(registry, experiment, *codes(experiment)).nearest(groups[group]))
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        raise ConfigError("\n".join(dict.fromkeys(faults)))
    return matched


def prior_parameters(registry: Registry, experiment: Experiment, levels: tuple[Level, ...], num_classes: int) -> int:
    """Trainable parameters of an experiment's priors over all levels; no memory is taken for their weights."""
    with torch.device("meta"):
        return parameters(assemble_code_model(registry, experiment, levels, num_classes if experiment.labels else 0))


@frozen
class _Reference:
    """The experiment that the others of a group are matched to, and the parameters of its priors."""

    experiment: Experiment
    parameters: int


@define
class _Search:
    """Widths of one experiment's priors, and the parameters that each gives. Widths are rounded, so many give the same."""

    registry: Registry
    experiment: Experiment
    levels: tuple[Level, ...]
    num_classes: int
    counts: dict[str, int] = field(factory=dict)
    tried: dict[float, int] = field(factory=dict)

    def nearest(self, reference: _Reference) -> Experiment:
        """The experiment at the width whose parameters come nearest to the reference; ConfigError when that is not near."""
        wanted = reference.parameters
        self._close_in(wanted)
        width = min(self.tried, key=lambda width: (abs(self.tried[width] - wanted), abs(width - 1)))
        if abs(self.tried[width] - wanted) > TOLERANCE * wanted:
            raise ConfigError(self._told(reference))
        return self._scaled(width)

    def _close_in(self, wanted: int) -> None:
        """Try widths: double or halve until two of them have the wanted count between them, then halve what lies between."""
        low = high = 1.0
        while self._count(high) < wanted and high < _WIDEST:
            low, high = high, high * 2
        while self._count(low) > wanted and low > 1 / _WIDEST:
            low, high = low / 2, low
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self._count(middle) < wanted else (low, middle)
        self._count(low)

    def _count(self, width: float) -> int:
        scaled = self._scaled(width)
        key = canonical([unstructure(choice) for choice in scaled.prior])
        if key not in self.counts:
            self.counts[key] = prior_parameters(self.registry, scaled, self.levels, self.num_classes)
        self.tried[width] = self.counts[key]
        return self.counts[key]

    def _scaled(self, width: float) -> Experiment:
        def at_width(choice: Any) -> Any:
            config = component_config(self.registry, "prior", choice)
            scaled = self.registry.load("prior", choice.use).scaled(config, width)
            return evolve(choice, fields=unstructure(scaled))

        return evolve(self.experiment, prior=tuple(at_width(choice) for choice in self.experiment.prior))

    def _told(self, reference: _Reference) -> str:
        name, wanted = self.experiment.prior_label, reference.parameters
        below = max((count for count in self.tried.values() if count < wanted), default=None)
        above = min((count for count in self.tried.values() if count > wanted), default=None)
        nearest = " and ".join(f"{count:,} ({count / wanted - 1:+.0%})" for count in (below, above) if count is not None)
        start = f"--match params: prior {name!r} cannot have the {wanted:,} parameters of {reference.experiment.prior_label!r}"
        if len(set(self.counts.values())) == 1:
            return f"{start}: it has {nearest} at every width (its class has no `scaled`); set its fields, or leave --match out"
        return f"{start} within {TOLERANCE:.0%}: the closest are {nearest}; change fields of one of them with --set"


def matched(
    session: Session, experiments: Sequence[Experiment], opened: Openings, say: Callable[[str], None]
) -> list[Experiment]:
    """`match_parameters` on the codes of opened data, told to a person."""

    def codes(experiment: Experiment) -> tuple[tuple[Level, ...], int]:
        return codes_of(session, experiment, opened[opening_name(experiment)])

    found = match_parameters(session.registry, experiments, codes)
    counts = {f"{one.prior_label} on {one.data.use}": prior_parameters(session.registry, one, *codes(one)) for one in found}
    for name, count in counts.items():  # once for all budgets
        say(f"matched: {name}: {count:,} parameters")
    return found
