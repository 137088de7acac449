"""Feature maps as rows: the features of all positions, which of them are valid, and the way back to the grid.

Masked rows are kept and weigh nothing, rather than taken out: a shape that depends on the mask would make the host wait
for the device in every step, and compiled code would break there.

Shapes: b batch, d width, *grid positions, n positions of the whole batch, k codes.
"""

import math
from typing import NamedTuple

import torch
from einops import pack, rearrange, unpack
from torch import Tensor

from dvgen.errors import NonFiniteError, ShapeError
from dvgen.interfaces.codes import MASKED
from dvgen.interfaces.looking import may_look


class Rows(NamedTuple):
    """The positions of a feature map, one a row.

    values: (n, d), at least float32, so that sums over rows are not taken in half precision; zero where masked.
    positions: (b, *grid). mask: bool (n,), False where masked, or None when every position is valid.
    dtype: of the features. finite: scalar, 1, or 0 when a valid value is NaN or infinite.
    """

    values: Tensor
    positions: tuple[int, ...]
    mask: Tensor | None
    dtype: torch.dtype
    finite: Tensor

    def features(self, values: Tensor) -> Tensor:
        """Rows (n, any) as features (b, any, *grid) in the dtype of the features; zero where masked."""
        (placed,) = unpack(self._kept(values), [self.positions], "* d")
        return rearrange(placed, "b ... d -> b d ...").to(self.dtype)

    def codes(self, codes: Tensor) -> Tensor:
        """Codes (n,) as codes (b, *grid); MASKED where masked."""
        kept = codes if self.mask is None else torch.where(self.mask, codes, MASKED)
        (placed,) = unpack(kept, [self.positions], "*")
        return placed

    def number(self) -> Tensor:
        """The number of valid rows, a float scalar."""
        if self.mask is None:
            return self.values.new_full((), float(self.values.shape[0]))
        return self.mask.sum().to(self.values.dtype)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over valid rows of values (n, *), and over all their other axes: a scalar; 0 when no row is valid."""
        return self.total(values) / (self.number().clamp(min=1) * math.prod(values.shape[1:]))

    def total(self, values: Tensor) -> Tensor:
        """The sum over valid rows of values (n, *): a scalar."""
        return self._kept(values).sum()

    def average(self, values: Tensor) -> Tensor:
        """The mean over valid rows of values (n, m): (m,); 0 when no row is valid."""
        return self._kept(values).sum(dim=0) / self.number().clamp(min=1)

    def count_codes(self, codes: Tensor, num_codes: int) -> Tensor:
        """How often each code (n,) occurs at a valid row: int64 (k,)."""
        ones = torch.ones_like(codes) if self.mask is None else self.mask.to(codes.dtype)
        return codes.new_zeros(num_codes).index_add_(0, codes, ones)

    def sum_by_code(self, codes: Tensor, num_codes: int, values: Tensor) -> Tensor:
        """The sum of values (n, *) over the valid rows of each code (n,): (k, *)."""
        kept = self._kept(values)
        return kept.new_zeros(num_codes, *kept.shape[1:]).index_add_(0, codes, kept)

    def _kept(self, values: Tensor) -> Tensor:
        """values (n, *), zero where masked, whatever stood there."""
        if self.mask is None:
            return values
        return torch.where(self.mask.view(-1, *(1,) * (values.ndim - 1)), values, 0)


def to_rows(z: Tensor, dim: int, mask: Tensor | None = None) -> Rows:
    """The rows of features z (b, dim, *grid); mask: bool (b, *grid), False where a position is padding.

    Raises ShapeError unless z and mask have these shapes and types, and NonFiniteError for a valid value that is NaN or
    infinite. Where values are not looked at (`may_look`) it does not raise the latter: such values become zero, and `finite`
    says so.
    """
    _check_shapes(z, dim, mask)
    values, _ = pack([rearrange(z, "b d ... -> b ... d")], "* d")
    flat = None if mask is None else mask.reshape(-1)
    if flat is not None:
        values = torch.where(flat.unsqueeze(1), values, 0)
    if not may_look():
        finite = values.isfinite()
        values, all_finite = torch.where(finite, values, 0), finite.all()
    else:
        check_finite(values, "features")
        all_finite = torch.ones((), device=z.device)
    wide = values.to(torch.promote_types(values.dtype, torch.float32))
    return Rows(wide, (z.shape[0], *z.shape[2:]), flat, z.dtype, all_finite.to(wide.dtype))


def _check_shapes(z: Tensor, dim: int, mask: Tensor | None) -> None:
    if z.ndim < 3 or z.shape[1] != dim or not z.is_floating_point():
        raise ShapeError(f"features: expected floats of shape (b, {dim}, *grid), got {z.dtype} of shape {tuple(z.shape)}")
    positions = (z.shape[0], *z.shape[2:])
    if mask is not None and (mask.dtype != torch.bool or tuple(mask.shape) != positions):
        raise ShapeError(f"mask: expected bool of shape {positions}, got {mask.dtype} of shape {tuple(mask.shape)}")


def check_initial(z: Tensor, dim: int) -> None:
    """Raise ShapeError unless z is (n, dim) with n >= 1, and NonFiniteError for a value that is NaN or infinite."""
    if z.ndim != 2 or not z.shape[0] or z.shape[1] != dim:
        raise ShapeError(f"initialise: expected features (n, {dim}) with n >= 1, got shape {tuple(z.shape)}")
    check_finite(z, "initialise")


def check_finite(values: Tensor, what: str) -> None:
    """Raise NonFiniteError when a value is NaN or infinite."""
    # a sum is a single pass without a mask in memory; finite values may overflow it, so a bad sum is only a suspicion
    if bool(values.sum(dtype=torch.promote_types(values.dtype, torch.float32)).isfinite()):
        return
    bad = int((~values.isfinite()).sum())
    if bad:
        raise NonFiniteError(
            f"{what}: {bad} of {values.numel()} values are NaN or infinite; lower the learning rate or check the data"
        )
