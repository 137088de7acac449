"""What every quantizer with a table of vectors does: start it, and look codes up.

Shapes: b batch, d width, *grid positions, n rows, k codes.
"""

import math
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from dvgen.blocks.rows import check_finite
from dvgen.errors import ShapeError
from dvgen.interfaces.codes import MASKED, Codes, Level, check_range
from dvgen.interfaces.looking import may_look

JITTER = 0.01
"""How far copies stand from their original when there are fewer rows than codes, relative to the spread of the rows."""


def code_level(grid: tuple[int, ...], num_codes: int) -> tuple[Level, ...]:
    """The one level of a quantizer with one codebook."""
    return (Level("codes", grid, num_codes),)


def uniform_codebook(num_codes: int, dim: int) -> Tensor:
    """A codebook (k, d) for a quantizer that sees no data first: uniform with variance 1/d (Sonnet's VectorQuantizer)."""
    return torch.empty(num_codes, dim).uniform_(-math.sqrt(3 / dim), math.sqrt(3 / dim))


@torch.no_grad()
def sampled_codebook(z: Tensor, num_codes: int) -> Tensor:
    """A codebook (k, d) of different rows of z (n, d), drawn with torch's global generator: each is some feature's nearest.

    Rows that occur twice (the background of a picture) are taken once, because the second of two equal codes is never
    chosen. When there are fewer different rows than codes, the others are copies with a little noise, none of them equal.
    Raises ShapeError when z has no rows and NonFiniteError for a value that is not finite.
    """
    if z.ndim != 2 or not z.shape[0]:
        raise ShapeError(f"initialise: expected features (n, d) with n >= 1, got shape {tuple(z.shape)}")
    check_finite(z, "initialise")
    distinct = torch.unique(z.to(torch.promote_types(z.dtype, torch.float32)), dim=0)
    order = torch.randperm(distinct.shape[0], device="cpu").to(z.device)
    missing = num_codes - distinct.shape[0]
    if missing <= 0:
        return distinct[order[:num_codes]]
    again = distinct[torch.randint(distinct.shape[0], (missing,)).to(z.device)]
    noise, step = torch.randn(missing, z.shape[1]).to(again), JITTER * _spread(distinct)
    codebook = torch.cat([distinct[order], again + step * noise])
    # far from the origin so small a step may be lost in rounding
    while len(torch.unique(codebook, dim=0)) < num_codes:
        step = 2 * step
        codebook = torch.cat([distinct[order], again + step * noise])
    return codebook


def _spread(rows: Tensor) -> Tensor:
    """Standard deviation of the rows; where it is zero, their size; where that is zero too, one."""
    wide = rows.double()  # squares of small and of large values leave the range of float32
    deviation, size = (wide - wide.mean(dim=0)).square().mean().sqrt(), wide.square().mean().sqrt()
    return torch.where(deviation > 1e-6 * size, deviation, torch.where(size > 0, size, torch.ones_like(size))).to(rows.dtype)


def look_up(codes: Codes, codebook: Tensor) -> Tensor:
    """The vectors (b, d, *grid) of one level of codes; zero where MASKED. Raises ShapeError for a code out of range."""
    if len(codes) != 1 or codes[0].ndim < 2:
        raise ShapeError(f"expected one level of codes (b, *grid), got shapes {[tuple(code.shape) for code in codes]}")
    known = checked_codes(codes[0], codebook.shape[0])
    masked = rearrange(known == MASKED, "b ... -> b ... 1")
    vectors = F.embedding(known.clamp(min=0), codebook).masked_fill(masked, 0)
    return rearrange(vectors, "b ... d -> b d ...")


def checked_codes(codes: Tensor, num_codes: int) -> Tensor:
    """The same codes (b, *grid); raises ShapeError unless they are int64, each in range or MASKED.

    Where values are not looked at (`may_look`), every code passes.
    """
    if codes.dtype != torch.int64:
        raise ShapeError(f"expected int64 codes, got {codes.dtype}")
    return _RangeCheck.apply(codes, num_codes) if may_look() else codes  # type: ignore[no-untyped-call]


class _RangeCheck(torch.autograd.Function):
    """A look at the values that also works under vmap, which shows them to nobody but a function of this kind."""

    @staticmethod
    def forward(codes: Tensor, num_codes: int) -> Tensor:
        check_range(codes, num_codes, "decode")
        return codes.view_as(codes)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, None], codes: Tensor, num_codes: int) -> tuple[Tensor, int | None]:
        return checked_codes(codes, num_codes), in_dims[0]
