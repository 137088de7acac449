"""Data sets, code sources and features, and what they are tried on."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, final

import attrs
import torch
from torch import Tensor

from dvgen.contracts.labelled_signals import LabelledSignals, rounded
from dvgen.contracts.model_subject import Example
from dvgen.contracts.prior_subject import every_map
from dvgen.contracts.taken_shapes import Shapes, TakesSignals
from dvgen.errors import ConfigError, ShapeError
from dvgen.interfaces.codes import Codes
from dvgen.interfaces.data import CodeSource, Dataset
from dvgen.interfaces.features import Features

TRIED_SIGNALS = 64
"""Signals of a data set that are looked at where all of them would take long, spread over the whole set."""

ENUMERABLE = 4096
"""Draws of a source up to which all that are possible are gone through."""

SHAPES = ((3, 32, 32), (1, 16, 20), (1, 2048), (2, 2048), (1, 28, 28), (3, 64, 64), (3, 224, 224), (1, 16384))
"""Signals that are offered to features, (channels, *size)."""


@final
class DataSubject:
    """A data set; the config is `Config()` unless given. location: what it is opened with."""

    variety = 1

    def __init__(self, kind: type[Dataset], config: Any = None, location: str | None = None) -> None:
        self.kind, self.location = kind, location
        self.config: Any = kind.Config() if config is None else config

    def opened(self, config: Any = None) -> Dataset:
        """The set, opened anew; with another config if one is given."""
        kind: Any = self.kind
        found: Dataset = kind(self.config if config is None else config, location=self.location)
        return found

    @cached_property
    def dataset(self) -> Dataset:
        """The set, opened once for all laws that only read."""
        return self.opened()

    def rows(self, example: Example) -> list[int]:
        """As many indices as the example's batch, at random."""
        found: list[int] = torch.randint(len(self.dataset), (example.batch,), generator=example.generator()).tolist()
        return found

    @property
    def tried(self) -> list[int]:
        """Different indices, ascending: all, or TRIED_SIGNALS of them."""
        return spread(len(self.dataset))


@final
class SourceSubject:
    """A code source; the config is `Config()` unless given. parts: what makes each part of its Config, by field."""

    variety = 1

    def __init__(
        self, kind: type[CodeSource], config: Any = None, parts: Mapping[str, Callable[..., Any]] | None = None
    ) -> None:
        self.kind, self.parts = kind, dict(parts or {})
        self.config: Any = kind.Config() if config is None else config

    def made(self, config: Any = None) -> CodeSource:
        """The source, made anew; with another config if one is given."""
        kind: Any = self.kind
        found: CodeSource = kind(self.config if config is None else config, **self.parts)
        return found

    @cached_property
    def source(self) -> CodeSource:
        """The source, made once for all laws that only read."""
        return self.made()

    @cached_property
    def small(self) -> CodeSource | None:
        """One whose draws can be enumerated: its own, or one with smaller numbers in its Config; None when none is found."""
        config, found = self.config, self.source
        for value in (2, 1):
            for field in attrs.fields(type(config)):
                if _maps(found) <= ENUMERABLE:
                    return found
                smaller = _with(config, field, value)
                made = None if smaller is None else self._made_or_none(smaller)
                if made is not None and _maps(made) < _maps(found):
                    config, found = smaller, made
        return found if _maps(found) <= ENUMERABLE else None

    def _made_or_none(self, config: Any) -> CodeSource | None:
        try:
            return self.made(config)
        except ConfigError:
            return None


@final
class FeaturesSubject(TakesSignals):
    """Features; the config is `tiny()` unless given.

    shapes: of signals, (channels, *size), those of SHAPES for which no ShapeError or ConfigError is raised unless given.
    Learned features are learned from LabelledSignals of the shape.
    """

    offered = SHAPES

    def __init__(self, kind: type[Features], config: Any = None, shapes: Shapes | None = None) -> None:
        super().__init__(kind, shapes)
        self.kind = kind
        self.config: Any = kind.tiny() if config is None else config

    def built(self, shape: tuple[int, ...]) -> Features:
        """Features for signals of this shape that have learned nothing yet, in evaluation."""
        kind: Any = self.kind
        found: Features = kind(self.config, channels=shape[0])
        return found.eval()

    def ready(self, shape: tuple[int, ...], seed: int = 0) -> Features:
        """Features that can be asked; learned ones from signals of this seed."""
        features = self.built(shape)
        if features.learned:
            dataset = LabelledSignals(shape, seed)
            features.fit(dataset, dataset.training, lambda: None)
        return features.eval()

    def signals(self, example: Example, batch: int | None = None) -> Tensor:
        """Signals (b, channels, *size) of the example's shape, in [-1, 1] and rounded."""
        shape = (batch or example.batch, *self.shape(example))
        return rounded(example.normal(*shape, dtype=torch.float32).tanh())

    def _takes(self, shape: tuple[int, ...]) -> bool:
        try:
            vectors(self.ready(shape), torch.zeros(2, *shape))
        except (ShapeError, ConfigError):
            return False
        return True


@torch.no_grad()
def vectors(features: Features, signals: Tensor) -> Tensor:
    """What features say of signals."""
    found: Tensor = features(signals)
    return found


def spread(n: int, most: int = TRIED_SIGNALS) -> list[int]:
    """At most so many different indices below n, ascending, from first to last."""
    return list(range(n)) if n <= most else [i * (n - 1) // (most - 1) for i in range(most)]


def all_draws(source: CodeSource) -> Codes:
    """Every draw that is possible, (n, *grid) a level."""
    return every_map(source.levels)


def changed_configs(config: Any) -> Iterator[tuple[str, list[Any]]]:
    """Configs with another value of one field, by the field's name; only values that its validators accept."""
    for field in attrs.fields(type(config)):
        configs = [_with(config, field, value) for value in _others(getattr(config, field.name), field)]
        yield field.name, [changed for changed in configs if changed is not None]


def _others(value: object, field: Any) -> Sequence[object]:
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, int):
        return (value - 1, value + 1, value // 2, 2 * value)
    if isinstance(value, float):
        return (value / 2, 2 * value, value + 0.5)
    # a choice: attrs tells what `in_` allows
    return [option for option in getattr(field.validator, "options", ()) if option != value]


def _with(config: Any, field: Any, value: object) -> Any:
    """The config with one number, or every number of a tuple, set to this value; None where that is refused or no change."""
    before = getattr(config, field.name)
    whole = isinstance(before, tuple) and before and all(isinstance(part, int) for part in before)
    after = (value,) * len(before) if whole else value
    if after == before or (not whole and type(before) is not type(value)):
        return None
    try:
        return attrs.evolve(config, **{field.alias: after})
    except (ValueError, TypeError, ConfigError):
        return None


def _maps(source: CodeSource) -> int:
    return math.prod(level.num_codes**level.length for level in source.levels)
