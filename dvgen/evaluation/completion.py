"""Completion and in-painting: the codes of a region are given, the others are drawn.

Places are decided on the coarsest grid: a finer code, or a pixel, is kept if the coarse cell that it lies in is kept.
"""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from attrs import frozen
from torch import Tensor

from dvgen.blocks.conditioning import nearest_places
from dvgen.errors import ConfigError
from dvgen.interfaces.codes import MASKED, Codes, Level

AXES = {"top": -2, "bottom": -2, "left": -1, "right": -1}
"""The axis that a side cuts; images have both, sound only the last one."""
OUTSIDE = "outside"
BLANK = 0.0
"""What is shown where nothing is kept: the middle of the range, grey in a picture and silence in a sound."""
EXPECTED = (
    "expected a side and its share, above 0 and below 1, such as top:0.5, bottom:0.25, left:0.5 or right:0.5; "
    "or outside:0.5, all but the centre, which is half of each axis"
)


@frozen
class Region:
    """What is kept: a side of the signal, and its share; or what is outside of a centre that is `share` of each axis."""

    side: str
    share: float

    def __str__(self) -> str:
        return f"{self.side}:{self.share:g}"


class Completions(NamedTuple):
    """(n, *shape) in [-1, 1] each. reconstructed: the originals, decoded. kept: of that what is given, the rest BLANK."""

    reconstructed: Tensor
    kept: Tensor
    completed: Tensor


def parse_region(text: str) -> Region:
    """The region that `--keep SIDE:SHARE` names; raises ConfigError for anything else."""
    side, _, share = text.partition(":")
    known = side in AXES or side == OUTSIDE
    if not known or not re.fullmatch(r"[0-9]*\.?[0-9]+", share) or not 0 < float(share) < 1:
        raise ConfigError(f"--keep {text!r}: {EXPECTED}")
    return Region(side, float(share))


def kept(levels: Sequence[Level], region: Region) -> tuple[Tensor, ...]:
    """Which codes of each level are given, bool (*grid).

    The share is rounded to whole codes of the coarsest grid, halves upwards; a centre that cannot stand in the middle stands
    one code nearer to the beginning. Raises ConfigError when all codes, or none, would be kept.
    """
    grid = min((level.grid for level in levels), key=math.prod)
    cells = _cells(grid, region)
    if cells.all() or not cells.any():
        which = "every code" if cells.all() else "no code"
        raise ConfigError(
            f"--keep {region}: would keep {which} of the coarsest grid, {'x'.join(map(str, grid))}; "
            "at least one must be kept and one left free: take another share"
        )
    return tuple(spread(cells, level.grid) for level in levels)


def given_codes(codes: Codes, masks: Sequence[Tensor]) -> Codes:
    """Codes (n, *grid) a level where the masks (*grid) keep them, MASKED where they are free."""
    free = (code.new_full((), MASKED) for code in codes)
    return tuple(torch.where(mask, code, blank) for code, mask, blank in zip(codes, masks, free, strict=True))


def kept_part(signals: Tensor, masks: Sequence[Tensor]) -> Tensor:
    """Signals (n, channels, *size) where their codes are kept, BLANK elsewhere."""
    coarsest = min(masks, key=torch.numel)
    return torch.where(spread(coarsest, tuple(signals.shape[2:])), signals, BLANK)


def spread(cells: Tensor, size: tuple[int, ...]) -> Tensor:
    """Cells (*grid) over a finer grid: place i of an axis of s places belongs to cell floor(i g / s) of g cells."""
    for axis, (length, places) in enumerate(zip(cells.shape, size, strict=True)):
        cells = cells.index_select(axis, nearest_places(length, places))
    return cells


def _cells(grid: tuple[int, ...], region: Region) -> Tensor:
    if region.side == OUTSIDE:
        cells = torch.ones(grid, dtype=torch.bool)
        cells[tuple(_centre(length, _rounded(region.share, length)) for length in grid)] = False
        return cells
    axis = AXES[region.side]
    if len(grid) < -axis:
        raise ConfigError(f"--keep {region}: sound has no {region.side}; expected left (the beginning), right or outside")
    length = grid[axis]
    count = _rounded(region.share, length)
    first = 0 if region.side in ("top", "left") else length - count
    cells = torch.zeros(grid, dtype=torch.bool)
    cells.narrow(axis, first, count).fill_(True)
    return cells


def _centre(length: int, count: int) -> slice:
    first = (length - count) // 2
    return slice(first, first + count)


def _rounded(share: float, length: int) -> int:
    """A share of codes as a whole number; half a code counts as one, whatever the number before it."""
    return math.floor(share * length + 0.5)
