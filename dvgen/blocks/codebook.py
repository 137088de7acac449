"""What every quantizer with a table of vectors does: start it, look codes up, describe how the codes are used.

Shapes: b batch, d width, *grid positions, n rows, k codes.
"""

import math

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from dvgen.blocks.rows import check_finite
from dvgen.errors import ShapeError
from dvgen.interfaces.codes import MASKED, Codes, Level, check_codes

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
    noise = torch.randn(missing, z.shape[1]).to(again)
    return torch.cat([distinct[order], again + JITTER * _spread(distinct) * noise])


def _spread(rows: Tensor) -> Tensor:
    """Standard deviation of the rows; where it is zero, their size; where that is zero too, one."""
    deviation, size = (rows - rows.mean(dim=0)).square().mean().sqrt(), rows.square().mean().sqrt()
    return torch.where(deviation > 1e-6 * size, deviation, torch.where(size > 0, size, torch.ones_like(size)))


def look_up(codes: Codes, codebook: Tensor) -> Tensor:
    """The vectors (b, d, *grid) of one level of codes; zero where MASKED. Raises ShapeError for a code out of range."""
    if len(codes) != 1 or codes[0].ndim < 2:
        raise ShapeError(f"expected one level of codes (b, *grid), got shapes {[tuple(code.shape) for code in codes]}")
    check_codes(codes, code_level(tuple(codes[0].shape[1:]), codebook.shape[0]))
    masked = rearrange(codes[0] == MASKED, "b ... -> b ... 1")
    vectors = F.embedding(codes[0].clamp(min=0), codebook).masked_fill(masked, 0)
    return rearrange(vectors, "b ... d -> b d ...")


def mean_square(difference: Tensor) -> Tensor:
    """The mean of the squares of all elements; 0 when there are none."""
    return difference.square().sum() / max(1, difference.numel())


@torch.no_grad()
def code_statistics(codes: Tensor, num_codes: int, error: Tensor) -> dict[str, Tensor]:
    """The stats of a quantizer with one level, from its codes (n,) and its mean squared quantization error.

    counts_0: int64 (k,). perplexity: exp of the entropy of the codes' frequencies, in 1..k (1 when there are no codes).
    """
    counts = torch.bincount(codes, minlength=num_codes)
    share = counts.double() / max(1, codes.numel())
    perplexity = (-torch.xlogy(share, share).sum()).exp().float()
    return {"counts_0": counts, "perplexity": perplexity, "quantization_error": error.detach()}
