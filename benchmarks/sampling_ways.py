"""Ways to sample one network: with its cache, and by a forward pass for every code; and whether they agree.

Shapes: b batch, h w grid, k num_codes.
"""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from measured import seconds
from torch import Generator, Tensor

from dvgen.discovery import discover
from dvgen.interfaces.codes import Level
from dvgen.interfaces.context import Context, ContextShape
from dvgen.interfaces.prior import AutoregressivePrior
from dvgen.interfaces.sampling import Sampling, draw

NUM_CODES = 512
LONGEST, POINTS = 10.0, 9
"""Seconds from which on a run is integrated, and at how many rows forward passes are timed for it."""


class Way(NamedTuple):
    """logits(codes (b, h, w), row): logits (b, rows, w, k) with those of this row last. until_row: it looks at no later row."""

    name: str
    logits: Callable[[Tensor, int], Tensor]
    until_row: bool


def make(name: str, side: int, **fields: Any) -> AutoregressivePrior:
    """An untrained prior over side x side codes, in evaluation mode; the same weights each time."""
    torch.manual_seed(0)
    cls: Any = discover().registry.load("prior", name)
    prior: AutoregressivePrior = cls(
        cls.Config(**fields), levels=(Level("codes", (side, side), NUM_CODES),), context=ContextShape()
    )
    return prior.eval()


def generators(batch: int) -> list[Generator]:
    """One a sample, always the same."""
    return [Generator().manual_seed(i) for i in range(batch)]


def with_cache(prior: AutoregressivePrior, batch: int) -> Tensor:
    """Codes (b, h, w) drawn by `sample`."""
    (codes,) = prior.sample(Context(batch), sampling=Sampling(), generators=generators(batch))
    return codes


@torch.inference_mode()
def with_passes(way: Way, grid: tuple[int, int], batch: int) -> Tensor:
    """Codes (b, h, w) drawn by a forward pass each, with the generators of `with_cache`."""
    height, width = grid
    uniforms = torch.stack([torch.rand(height * width, generator=g, dtype=torch.float64) for g in generators(batch)])
    codes = torch.zeros(batch, height, width, dtype=torch.int64)
    for position in range(height * width):
        row, column = divmod(position, width)
        logits = way.logits(codes, row)[:, row, column]
        codes[:, row, column] = draw(logits.float(), uniforms[:, position], Sampling())
    return codes


def whole_grid(prior: AutoregressivePrior) -> Way:
    """`logits` of the whole grid."""
    return Way("whole grid", lambda codes, row: prior.logits(codes, Context(len(codes))), until_row=False)


def rows_so_far(prior: AutoregressivePrior) -> Way:
    """`logits` of a prior for as many rows as there are, with the same weights, as peers sample who cut the grid there.

    What such a prior knows about its grid are buffers in raster order, of which it gets the first part.
    """
    cls: Any = type(prior)
    width = prior.level.grid[1]
    shorter = []
    for row in range(prior.level.grid[0]):
        part = cls(prior.config, levels=(Level("codes", (row + 1, width), NUM_CODES),), context=ContextShape()).eval()
        part.load_state_dict(prior.state_dict())
        for name, buffer in part.named_buffers():
            buffer.copy_(prior.get_buffer(name)[: len(buffer)])
        shorter.append(part)
    return Way("rows so far", lambda codes, row: shorter[row].logits(codes[:, : row + 1], Context(len(codes))), until_row=True)


def sampler(way: Way, grid: tuple[int, int], batch: int) -> tuple[Callable[[], float], str]:
    """What returns the seconds of sampling a batch this way, and "whole" or "integrated": how it knows them."""
    codes = torch.randint(NUM_CODES, (batch, *grid))
    once = partial(_forward, way, codes, grid[0] - 1)
    once()
    if seconds(once) * grid[0] * grid[1] * (0.5 if way.until_row else 1.0) < LONGEST:
        return partial(seconds, partial(with_passes, way, grid, batch)), "whole"
    return partial(integrated, partial(_forward, way, codes), grid, way.until_row), "integrated"


def integrated(forward: Callable[[int], object], grid: tuple[int, int], until_row: bool) -> float:
    """Seconds of one forward pass a position, from passes at a few evenly spaced rows; passes over all rows cost the same."""
    height, width = grid
    rows = np.linspace(0, height - 1, POINTS if until_row else 2).round().astype(int)
    spent = [seconds(partial(forward, int(row))) for row in rows]
    return float(np.interp(range(height), rows, spent).sum()) * width


@torch.inference_mode()
def _forward(way: Way, codes: Tensor, row: int) -> Tensor:
    return way.logits(codes, row)


@torch.inference_mode()
def difference(prior: AutoregressivePrior, dtype: torch.dtype, batch: int = 2) -> float:
    """The largest difference of `step`, shown given codes, from `logits`; of a copy in this type. The prior stays as it is."""
    copy: Any = deepcopy(prior).to(dtype)
    codes = torch.randint(NUM_CODES, (batch, *prior.level.grid), generator=Generator().manual_seed(0))
    state, previous, stepped = copy.start(Context(batch)), None, []
    for code in codes.flatten(1).unbind(dim=1):
        stepped.append(copy.step(state, previous).clone())
        previous = code
    whole = copy.logits(codes, Context(batch)).flatten(1, 2)
    return float((torch.stack(stepped, dim=1) - whole).abs().max())
