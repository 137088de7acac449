"""What the contract of quantizers is checked on: a quantizer made anew, and examples of what it may meet.

Shapes: b batch, d width, *grid positions, n features.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from attrs import define, frozen
from torch import Generator, Tensor

from dvgen.contracts.layout import channels_last
from dvgen.interfaces.codes import MASKED, Codes
from dvgen.interfaces.quantizer import Quantized, Quantizer, Traits

ENUMERABLE = 2**10
"""Codes of a level up to which a check goes through all of them: give the contract a quantizer of no more."""

JUNK = (torch.nan, torch.inf, -torch.inf, 1e30)
"""What lies under a mask."""

SAMPLES = 96
"""Features that a quantizer is initialised from: many times the codes of a tiny one."""


@frozen(kw_only=True)
class Example:
    """One situation: features of this shape, scale and offset, and a quantizer initialised and moved on the like of them.

    In memory their channels lie last where the seed is even, and elsewhere they are contiguous.
    mask: "none", "some" or "all" positions are masked. updates: training steps taken before. junk: which of JUNK lies under
    the mask.
    """

    batch: int = 3
    grid: tuple[int, ...] = (2, 3)
    scale: float = 1.0
    offset: float = 0.0
    dtype: torch.dtype = torch.float32
    train: bool = True
    mask: str = "none"
    junk: int = 0
    updates: int = 1
    seed: int = 0

    def features(self, dim: int, salt: int = 0) -> Tensor:
        """Features (b, d, *grid); another salt gives others. Clean: see `covered`."""
        drawn = self._drawn((self.batch, dim, *self.grid), salt).to(self.dtype)
        return drawn if self.seed % 2 else channels_last(drawn)

    def rows(self, n: int, dim: int, salt: int = 0) -> Tensor:
        """Features (n, d) of the same scale and offset, float32."""
        return self._drawn((n, dim), salt + 1000).to(self.dtype).float()

    def valid(self) -> Tensor | None:
        """The mask: bool (b, *grid), False where masked, or None."""
        if self.mask == "none":
            return None
        shape = (self.batch, *self.grid)
        if self.mask == "all":
            return torch.zeros(shape, dtype=torch.bool)
        return torch.rand(shape, generator=self._generator(77)) < 0.5

    def covered(self, z: Tensor) -> Tensor:
        """z with junk under the mask."""
        valid = self.valid()
        if valid is None:
            return z
        return torch.where(valid.unsqueeze(1), z, torch.tensor(JUNK[self.junk]).to(z.dtype))

    def _drawn(self, shape: tuple[int, ...], salt: int) -> Tensor:
        # half precision cannot hold every scale and offset
        largest = 1e3 if self.dtype == torch.float16 else torch.inf
        scale, offset = (min(value, largest) for value in (self.scale, self.offset))
        return torch.randn(shape, generator=self._generator(salt), dtype=torch.float64) * scale + offset

    def _generator(self, salt: int) -> Generator:
        return Generator().manual_seed(self.seed * 7919 + salt)


@define
class Subject:
    """A way to make the quantizer in question, anew each time and with the same config."""

    make: Callable[[], Quantizer]

    def fresh(self, seed: int = 0) -> Quantizer:
        """A quantizer whose first weights depend on `seed` alone."""
        torch.manual_seed(seed)
        return self.make()

    def prepared(self, example: Example) -> Quantizer:
        """A quantizer initialised from features like the example's, moved by a few updates, in the example's mode."""
        quantizer = self.fresh(example.seed)
        torch.manual_seed(example.seed)
        quantizer.initialise(example.rows(SAMPLES, quantizer.dim))
        quantizer.schedule(0)
        quantizer.train()
        for step in range(example.updates):
            z = example.rows(SAMPLES, quantizer.dim, salt=step + 1)
            quantizer.update(quantizer(as_map(z)).pending)
        return quantizer.train(example.train)

    @property
    def traits(self) -> Traits:
        """What the quantizer declares."""
        return self.fresh().traits

    @property
    def deterministic(self) -> bool:
        """Whether it quantizes in training as in evaluation."""
        return self.fresh().deterministic


def run(quantizer: Quantizer, z: Tensor, mask: Tensor | None = None, seed: int = 0) -> Quantized:
    """One forward pass, its random numbers a function of `seed`."""
    torch.manual_seed(seed)
    return quantizer(z, mask)


def twin_of(quantizer: Quantizer) -> Quantizer:
    """An independent copy."""
    return copy.deepcopy(quantizer)


def outputs(quantized: Quantized) -> dict[str, Tensor]:
    """Every tensor that a forward pass returned, by name."""
    named = {"vectors": quantized.vectors}
    for group, values in (("losses", quantized.losses), ("stats", quantized.stats), ("pending", quantized.pending)):
        named |= {f"{group}.{name}": value for name, value in values.items()}
    return named | {f"codes.{i}": code for i, code in enumerate(quantized.codes)}


def loss_kinds(quantizer: Quantizer) -> set[str]:
    """The names of its losses, without the prefixes of inner quantizers."""
    return {name.rpartition(".")[2] for name in run(quantizer, torch.zeros(1, quantizer.dim, 1)).losses}


def objective(quantized: Quantized, upstream: Tensor | None = None) -> Tensor:
    """A scalar that depends on the vectors (through `upstream`, or by their squares) and on every loss."""
    vectors = quantized.vectors.float()
    through = vectors.square().sum() if upstream is None else (vectors * upstream).sum()
    return torch.stack([through, *quantized.losses.values()]).sum()


def as_map(rows: Tensor) -> Tensor:
    """Features (n, d) as one map (1, d, n)."""
    return rows.T.unsqueeze(0)


def as_rows(z: Tensor) -> Tensor:
    """Features (b, d, *grid) as rows (n, d)."""
    return z.movedim(1, -1).reshape(-1, z.shape[1])


def all_codes(quantizer: Quantizer) -> Codes:
    """Every code of a quantizer with one level, (1, k); of one with several, as many tuples, the last level fastest."""
    sizes = [level.num_codes for level in quantizer.levels((1,))]
    grids: Any = torch.meshgrid(*(torch.arange(size) for size in sizes), indexing="ij")
    return tuple(grid.reshape(1, -1) for grid in grids)


def masked_like(codes: Tensor) -> Tensor:
    """Codes of the same shape, all of them masked."""
    return torch.full_like(codes, MASKED)
