"""What rounding alone may change: how far outputs move, and which codes flip, when features move by a few units of rounding.

Two ways to compute the same thing (rows in another order, masked or dropped) round differently, and by how much depends on the
quantizer: a logit far from the origin cancels, a nearest code does not. So the allowance is measured, not guessed.

Shapes: b batch, d width, *grid positions.
"""

import torch
from attrs import frozen
from torch import Generator, Tensor

from dvgen.contracts.law import require, require_close
from dvgen.contracts.quantizer_subject import Example, outputs, run
from dvgen.interfaces.quantizer import Quantized, Quantizer

UNITS = 8 * torch.finfo(torch.float32).eps
"""How far features are moved, relative to each: the few roundings of a sum of a handful of products."""

TIMES = 3
"""How often, each time in another direction."""

MARGIN = 16
"""Rounding may move an output this many times as far as the worst move seen."""

HOW_FOUND = frozenset({"stats.certified"})
"""Outputs that tell how a code was found, not which; they depend on rounding and nothing else."""


@frozen
class Rounding:
    """settled: bool (b, *grid), whether the codes of a position stay when features move. moved: how far each output went."""

    settled: Tensor
    moved: dict[str, float]


def wide_features(quantizer: Quantizer, example: Example) -> Tensor:
    """The example's features, at least float32: half precision has its own, much larger, rounding."""
    z = example.features(quantizer.dim)
    return z.to(torch.promote_types(z.dtype, torch.float32))


def upstream_for(z: Tensor, salt: int = 0) -> Tensor:
    """A gradient to send back, of the shape and dtype of z; another salt gives another."""
    return torch.randn(z.shape, generator=Generator().manual_seed(salt), dtype=torch.float64).to(z.dtype)


def same_grids(quantizer: Quantizer, grid: tuple[int, ...]) -> bool:
    """Whether every level has one code a position, so that positions can be exchanged, dropped or quantized alone."""
    return all(level.grid == grid for level in quantizer.levels(grid))


def rounding(quantizer: Quantizer, z: Tensor, mask: Tensor | None = None) -> Rounding:
    """Measure it. z (b, d, *grid) without junk. A nearest code is exact (P3), so all codes of such a quantizer are settled."""
    here = run(quantizer, z, mask)
    settled = torch.ones(z.shape[0], *z.shape[2:], dtype=torch.bool)
    moved = dict.fromkeys(measured(here), 0.0)
    # the variance of equal values is the square of the rounding of their mean
    floor = (UNITS * max(float(here.stats[name]) for name in ("feature_norm", "vector_norm"))) ** 2
    for other in (run(quantizer, shaken(z, salt), mask) for salt in range(TIMES)):
        for code, again in zip(here.codes, other.codes, strict=True):
            if code.shape == settled.shape and not quantizer.traits.nearest:
                settled &= code == again
        for name, value in measured(other).items():
            distance = (value.double() - measured(here)[name].double()).abs()
            moved[name] = max(moved[name], float(distance.amax()) if distance.numel() else 0.0)
    return Rounding(settled, {name: max(value, floor) for name, value in moved.items()})


def shaken(z: Tensor, salt: int) -> Tensor:
    """z with every value moved by a few units of rounding."""
    return z + UNITS * z.abs() * upstream_for(z, 500 + salt)


def measured(quantized: Quantized) -> dict[str, Tensor]:
    """Losses, stats and pending by name, detached, without those of HOW_FOUND."""
    named = {name: value.detach() for name, value in outputs(quantized).items()}
    return {
        name: value for name, value in named.items() if "." in name and not name.startswith("codes") and name not in HOW_FOUND
    }


def require_same_outputs(found: Quantized, expected: Quantized, allowed: Rounding, what: str) -> None:
    """Raise Broken unless losses, stats and pending agree to rounding."""
    reference = measured(expected)
    require(measured(found).keys() == reference.keys(), f"{what}: other losses, stats or pending")
    for name, value in measured(found).items():
        require_close(value, reference[name], f"{what}: {name}", absolute=MARGIN * allowed.moved[name])
