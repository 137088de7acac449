"""What the contract of a component other than a quantizer is checked on: the component made anew, and inputs for it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from attrs import evolve, frozen
from torch import Generator, Tensor, nn

from dvgen.contracts.layout import channels_last
from dvgen.interfaces.context import Context
from dvgen.interfaces.model import Model

NOISE = 0.2
"""Deviation of what is added to every first weight: where layers start at zero, nothing would depend on what lies before."""

ROUNDING = 1e-9
"""How far apart two results in float64 may lie, relative to the largest value, that differ by the order of sums."""


@frozen(kw_only=True)
class Example:
    """One situation: so many samples, of one of the subject's shapes (by number, from the start again past the last), and a
    seed of weights and inputs. Where shape and seed add up to an odd number, channels of inputs lie last in memory.
    """

    batch: int = 3
    shape: int = 0
    seed: int = 0

    def generator(self, salt: int = 0) -> Generator:
        """Random numbers of this example; another salt gives others."""
        return Generator().manual_seed(self.seed * 7919 + salt)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float64, salt: int = 0) -> Tensor:
        """Normal random numbers, laid out in memory as the example says."""
        drawn = torch.randn(shape, generator=self.generator(salt), dtype=torch.float64).to(dtype)
        return channels_last(drawn) if (self.shape + self.seed) % 2 else drawn


class ModelSubject(ABC):
    """A way to make the component in question, anew each time; laws speak of it as of a function of tensors.

    kinds, configs: its class and config; of an autoencoder, two of each. variety: how many shapes it is tried on, at most.
    batched: outputs have one row a sample. trained: it has parameters to train, and can be built without memory for them.
    """

    batched: bool = True
    trained: bool = True
    variety: int

    def __init__(self, kinds: tuple[type[Model], ...], configs: tuple[Any, ...]) -> None:
        self.kinds = kinds
        self.configs = tuple(kind.tiny() if own is None else own for kind, own in zip(kinds, configs, strict=True))

    @abstractmethod
    def made(self, configs: tuple[Any, ...], example: Example) -> nn.Module:
        """The component with other configs, for the example's shape."""

    @abstractmethod
    def inputs(self, example: Example, dtype: torch.dtype = torch.float64) -> tuple[Any, ...]:
        """Random inputs of the example's shape."""

    @abstractmethod
    def outputs(self, model: nn.Module, *inputs: Any) -> dict[str, Tensor]:
        """All that the component makes of inputs, by name."""

    def objective(self, model: nn.Module, *inputs: Any) -> Tensor:
        """A scalar that depends on everything that the component makes."""
        values = self.outputs(model, *inputs).values()
        return torch.stack([weighted(value) for value in values]).sum()

    def fresh(self, example: Example) -> nn.Module:
        """The component, its first weights a function of the example's seed alone."""
        torch.manual_seed(example.seed)
        return self.made(self.configs, example)

    @torch.no_grad()
    def prepared(self, example: Example, *, train: bool = False) -> Any:
        """The component in float64, as after training: every weight moved, and buffers by one pass in training mode."""
        model = self.fresh(example).double()
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=NOISE)
        if self.batched:
            self.outputs(model.train(), *self.inputs(evolve(example, seed=example.seed + 1, batch=max(2, example.batch))))
        return model.train(train)


def mapped(value: Any, change: Callable[[Tensor], Tensor], batch: int | None = None) -> Any:
    """Inputs with every tensor changed; batch: how many samples a context then has."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Context):
        coarser, labels = mapped((value.coarser, value.labels), change)
        return Context(value.batch if batch is None else batch, coarser, labels)
    if isinstance(value, tuple):
        return tuple(mapped(part, change, batch) for part in value)
    return value


def sample_of(inputs: tuple[Any, ...], i: int) -> tuple[Any, ...]:
    """Inputs of the i-th sample alone."""
    found: tuple[Any, ...] = mapped(inputs, lambda tensor: tensor[i : i + 1], 1)
    return found


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor of inputs."""
    found: list[Tensor] = []
    mapped(value, lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return found


def weighted(value: Tensor) -> Tensor:
    """A scalar in which every element has a weight of its own, the same each time."""
    weights = torch.randn(value.shape, generator=Generator().manual_seed(1), dtype=torch.float64)
    return (value * weights.to(value)).sum()
