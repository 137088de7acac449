"""A prior, and the codes and contexts that it is tried on.

Shapes: b batch, *grid of a level.
"""

import itertools
import math
from functools import cached_property
from typing import Any, NamedTuple, final

import torch
from torch import Generator, Tensor, nn

from dvgen.contracts.model_subject import Example, ModelSubject
from dvgen.errors import ConfigError
from dvgen.interfaces.codes import Codes, Level
from dvgen.interfaces.context import UNCONDITIONAL, Context, ContextShape
from dvgen.interfaces.prior import AutoregressivePrior, Prior


class Situation(NamedTuple):
    """What a prior is built for."""

    levels: tuple[Level, ...]
    context: ContextShape

    @property
    def maps(self) -> int:
        """How many different code maps there are."""
        return math.prod(level.num_codes**level.length for level in self.levels)


def _level(*grid: int, codes: int, name: str = "level") -> Level:
    return Level(name, grid, codes)


TOP = _level(2, 2, codes=4, name="top")

SITUATIONS = (
    Situation((_level(3, 4, codes=5),), ContextShape((TOP,), 3)),
    Situation((_level(6, codes=4),), ContextShape((_level(3, codes=3, name="top"),), 2)),
    Situation((_level(2, 3, codes=4),), ContextShape()),
    Situation((_level(2, 2, codes=2),), ContextShape((_level(1, 2, codes=3, name="top"),), 2)),
    Situation((_level(4, codes=2),), ContextShape()),
    Situation((_level(1, 2, codes=2, name="top"), _level(2, 2, codes=2)), ContextShape((), 2)),
)
"""Images and sounds, alone and with all that a context holds; spaces so small that they can be enumerated; two levels."""

ENUMERABLE = 64
"""Code maps up to which a check goes through all of them."""


@final
class PriorSubject(ModelSubject):
    """A prior; the config is `tiny()` unless given.

    situations: what it is built for, those of SITUATIONS for which no ConfigError is raised unless given; the first is the
    one of laws that need no other. Inputs are codes (b, *grid) a level and a context.
    """

    def __init__(self, kind: type[Prior], config: Any = None, situations: tuple[Situation, ...] | None = None) -> None:
        super().__init__((kind,), (config,))
        self._given = situations
        self.variety = len(SITUATIONS if situations is None else situations)

    @cached_property
    def situations(self) -> tuple[Situation, ...]:
        """What the prior is tried on. Raises ConfigError when it can be built for none of those known here."""
        with torch.random.fork_rng(devices=()):  # what is made to find out must not change what is made next
            found = self._given or tuple(filter(self._takes, SITUATIONS))
        if not found:
            raise ConfigError(f"{self.kinds[0].__name__} models none of {SITUATIONS}; give `situations` that it models")
        return found

    @property
    def autoregressive(self) -> bool:
        """Whether it predicts one code after the other."""
        return issubclass(self.kinds[0], AutoregressivePrior)

    @property
    def exact(self) -> bool:
        """Whether what it tells is the log-probability itself, and no bound, in every situation."""
        return all(self._built(self.configs, situation).exact for situation in self.situations)

    @property
    def spaces(self) -> tuple[int, ...]:
        """The numbers of situations that can be enumerated."""
        return tuple(i for i, situation in enumerate(self.situations) if situation.maps <= ENUMERABLE)

    @property
    def conditional(self) -> tuple[int, ...]:
        """The numbers of situations with a context."""
        return tuple(i for i, s in enumerate(self.situations) if s.context.num_classes or s.context.coarser)

    def situation(self, example: Example) -> Situation:
        """The example's situation."""
        return self.situations[example.shape % len(self.situations)]

    def made(self, configs: tuple[Any, ...], example: Example) -> Prior:
        """The prior."""
        return self._built(configs, self.situation(example))

    def inputs(self, example: Example, dtype: torch.dtype = torch.float64) -> tuple[Any, ...]:
        """Codes of every level, and a context, the first sample's label UNCONDITIONAL."""
        levels, shape = self.situation(example)
        generator = example.generator()
        codes = tuple(_drawn(level, example.batch, generator) for level in levels)
        coarser = tuple(_drawn(level, example.batch, generator) for level in shape.coarser)
        labels = None
        if shape.num_classes:
            labels = torch.randint(0, shape.num_classes, (example.batch,), generator=generator)
            labels[:1] = UNCONDITIONAL
        return codes, Context(example.batch, coarser, labels)

    def outputs(self, model: nn.Module, *inputs: Any) -> dict[str, Tensor]:
        """Log-probabilities of every level."""
        return {f"terms.{i}": terms for i, terms in enumerate(model(*inputs))}

    def objective(self, model: nn.Module, *inputs: Any) -> Tensor:
        """What training minimises."""
        prior: Any = model
        loss: Tensor = prior.loss(*inputs, Generator().manual_seed(0))
        return loss

    def _takes(self, situation: Situation) -> bool:
        try:
            self._built(self.configs, situation)
        except ConfigError:
            return False
        return True

    def _built(self, configs: tuple[Any, ...], situation: Situation) -> Prior:
        kind: Any = self.kinds[0]
        built: Prior = kind(*configs, levels=situation.levels, context=situation.context)
        return built


def every_map(levels: tuple[Level, ...]) -> Codes:
    """All code maps, (n, *grid) a level; the last code of the last level changes fastest."""
    sizes = [level.num_codes for level in levels for _ in range(level.length)]
    table = torch.tensor(list(itertools.product(*(range(size) for size in sizes))))
    parts = table.split([level.length for level in levels], dim=1)
    return tuple(part.unflatten(1, level.grid) for part, level in zip(parts, levels, strict=True))


def repeated(context: Context, batch: int, i: int = 0) -> Context:
    """The i-th sample's context, `batch` times."""
    coarser = tuple(code[i : i + 1].expand(batch, *code.shape[1:]) for code in context.coarser)
    return Context(batch, coarser, None if context.labels is None else context.labels[i : i + 1].expand(batch))


def generators(count: int, seed: int) -> list[Generator]:
    """One generator a sample."""
    return [Generator().manual_seed(seed * 1009 + i) for i in range(count)]


@torch.no_grad()
def log_probability(prior: nn.Module, codes: Codes, context: Context) -> Tensor:
    """Of each map of all levels, (b,)."""
    total: Tensor = sum(terms.flatten(1).sum(dim=1) for terms in prior(codes, context))
    return total


def _drawn(level: Level, batch: int, generator: Generator) -> Tensor:
    return torch.randint(0, level.num_codes, (batch, *level.grid), generator=generator)
