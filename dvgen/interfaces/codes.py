"""Levels and codes: what every quantizer produces and every prior models."""

import math
from collections.abc import Sequence

import torch
from attrs import field, frozen
from attrs.validators import deep_iterable, ge, instance_of, min_len
from torch import Tensor

from dvgen.errors import ShapeError
from dvgen.interfaces.looking import may_look

MASKED = -1
"""The code of a position that is masked out: it decodes to the zero vector and costs 0 nats."""

Codes = tuple[Tensor, ...]
"""One tensor a level, int64, (b, *grid), 0 <= code < num_codes or MASKED; in dependency order, coarse first."""


@frozen
class Level:
    """One grid of integers: its name, its grid (one number for sound, two for images) and how many codes there are."""

    name: str
    grid: tuple[int, ...] = field(validator=[min_len(1), deep_iterable(ge(1))])
    num_codes: int = field(validator=[instance_of(int), ge(1)])

    @property
    def length(self) -> int:
        """Positions of the grid."""
        return math.prod(self.grid)


def check_codes(codes: Codes, levels: Sequence[Level]) -> None:
    """Raise ShapeError unless `codes` are int64 tensors (b, *grid), one a level, each in range or MASKED."""
    if len(codes) != len(levels):
        raise ShapeError(f"expected codes of {len(levels)} levels, got {len(codes)}")
    for code, level in zip(codes, levels, strict=True):
        if code.dtype != torch.int64 or tuple(code.shape[1:]) != tuple(level.grid):
            raise ShapeError(
                f"level {level.name!r}: expected int64 codes of shape (b, {', '.join(map(str, level.grid))}), "
                f"got {code.dtype} of shape {tuple(code.shape)}"
            )
        check_range(code, level.num_codes, f"level {level.name!r}")


def check_range(codes: Tensor, num_codes: int, what: str) -> None:
    """Raise ShapeError unless every code is in 0..num_codes - 1 or MASKED; `what` names the codes in the message.

    Where values are not looked at (`may_look`), every code passes.
    """
    if may_look() and codes.numel() and (int(codes.min()) < MASKED or int(codes.max()) >= num_codes):
        raise ShapeError(
            f"{what}: codes must be in 0..{num_codes - 1} or -1 (masked), got {int(codes.min())}..{int(codes.max())}"
        )
