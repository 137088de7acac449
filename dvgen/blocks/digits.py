"""Channels of few values each, as codes: mixed-radix numbers, one a level, and back.

A level is a group of consecutive channels. Its code is the number whose digits are the values of its channels: the first
channel counts 1, each further one as much as all combinations of those before it.

Shapes: b batch, d channels, *grid positions, n rows.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dvgen.blocks.codebook import checked_codes, code_level
from dvgen.errors import ShapeError
from dvgen.interfaces.codes import MASKED, Codes, Level

MAX_CODES = 2**62
"""The most codes that a level may have: int64 then holds every code, every place value, and -1."""


def channel_groups(sizes: Sequence[int], factors: int) -> tuple[tuple[int, ...], ...]:
    """The sizes of d channels in `factors` groups of neighbours, as even as possible: some of the first have one channel more.

    Raises ValueError when there are fewer channels than groups, or when a group has more than MAX_CODES combinations.
    """
    if factors > len(sizes):
        raise ValueError(f"factors: {factors} groups need as many channels, got {len(sizes)}; lower factors")
    least, more = divmod(len(sizes), factors)
    ends = [least * i + min(i, more) for i in range(factors + 1)]
    groups = tuple(tuple(sizes[start:end]) for start, end in pairwise(ends))
    largest = max(math.prod(group) for group in groups)
    if largest > MAX_CODES:
        raise ValueError(f"a level of {largest} codes is more than int64 can name (2**62); raise factors or use fewer channels")
    return groups


class Digits(nn.Module):
    """Digits of d channels as codes of one or several levels; int64 arithmetic, exact for any number of codes.

    sizes: how many values each channel takes. factors: levels, `channel_groups` says which channels each has.
    """

    sizes: Tensor
    places: Tensor

    def __init__(self, sizes: Sequence[int], factors: int) -> None:
        super().__init__()
        groups = channel_groups(sizes, factors)
        places = [math.prod(group[:i]) for group in groups for i in range(len(group))]
        self.widths = [len(group) for group in groups]
        self.num_codes = [math.prod(group) for group in groups]
        # buffers, because a constant made anew in every pass would be copied to the device each time; integers, because a
        # cast of the model must not round them
        self.register_buffer("sizes", torch.tensor(sizes), persistent=False)
        self.register_buffer("places", torch.tensor(places), persistent=False)

    def levels(self, grid: tuple[int, ...]) -> tuple[Level, ...]:
        """One level a group, all on the same grid."""
        if len(self.num_codes) == 1:
            return code_level(grid, self.num_codes[0])
        return tuple(Level(f"factor{i}", grid, size) for i, size in enumerate(self.num_codes))

    def codes(self, digits: Tensor) -> list[Tensor]:
        """Codes (n,) of each level from int64 digits (n, d), each at least 0 and less than the size of its channel."""
        return [terms.sum(dim=1) for terms in (digits * self.places).split(self.widths, dim=1)]

    def digits(self, codes: Codes) -> tuple[Tensor, Tensor]:
        """The digits (b, *grid, d) that codes (b, *grid) of the first few levels or all name, and which are named: bool.

        Channels of a level that is missing are not named, nor those of a MASKED code; their digits are 0. Raises ShapeError
        for a wrong number of levels, unequal shapes and codes out of range.
        """
        self._check(codes)
        known = [checked_codes(code, size) for code, size in zip(codes, self.num_codes, strict=False)]
        each = [code.unsqueeze(-1).expand(*code.shape, width) for code, width in zip(known, self.widths, strict=False)]
        spread = torch.cat(each, dim=-1)
        numbers = F.pad(spread, (0, len(self.sizes) - spread.shape[-1]), value=MASKED)
        return numbers.clamp(min=0) // self.places % self.sizes, numbers != MASKED

    def _check(self, codes: Codes) -> None:
        shapes = [tuple(code.shape) for code in codes]
        if not 1 <= len(codes) <= len(self.num_codes) or len(shapes[0]) < 2 or len(set(shapes)) > 1:
            raise ShapeError(f"expected 1 to {len(self.num_codes)} levels of codes (b, *grid) of one shape, got {shapes}")
