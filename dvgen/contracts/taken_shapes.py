"""The shapes of signals that a component is tried on: those that it is given, or those that it takes of some it is offered."""

from abc import ABC, abstractmethod
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar

import torch

from dvgen.contracts.model_subject import Example
from dvgen.errors import ConfigError

Shapes = tuple[tuple[int, ...], ...]
"""Of signals, (channels, *size)."""

TRIED = 2
"""How many of the shapes that are taken are used, and how many examples there are at least: see `Example`."""


class TakesSignals(ABC):
    """What subjects have in common whose component takes signals.

    offered: shapes, of which those that are taken are used unless others were given. variety: how many examples it takes to
    see all of them, and a single one in both layouts in memory.
    """

    offered: ClassVar[Shapes]
    variety: int

    def __init__(self, kind: type[Any], given: Shapes | None) -> None:
        self._kind, self._given = kind, given
        self.variety = max(TRIED, len(given or ()))

    @cached_property
    def shapes(self) -> Shapes:
        """The shapes of signals to try. Raises ConfigError when none of those known here is taken."""
        with torch.random.fork_rng(devices=()):  # what is made to find out must not change what is made next
            found = self._given or tuple(islice(filter(self._takes, self.offered), TRIED))
        if not found:
            name = self._kind.__name__
            raise ConfigError(f"{name} takes signals of none of the shapes {self.offered}; give `shapes` it takes")
        return found

    def shape(self, example: Example) -> tuple[int, ...]:
        """(channels, *size) of the example's signals."""
        return self.shapes[example.shape % len(self.shapes)]

    @abstractmethod
    def _takes(self, shape: tuple[int, ...]) -> bool:
        """Whether it takes signals of a shape."""
