"""Feature maps as rows: the features of all valid positions, and the way back to the grid.

Shapes: b batch, d width, *grid positions, n valid positions of the whole batch, k codes.
"""

from typing import NamedTuple

import torch
from einops import pack, rearrange, unpack
from torch import Tensor

from dvgen.errors import NonFiniteError, ShapeError
from dvgen.interfaces.codes import MASKED


class Rows(NamedTuple):
    """The valid positions of a feature map, one a row.

    values: (n, d), at least float32, so that sums over rows are not taken in half precision.
    positions: (b, *grid). mask: bool of that shape, or None when every position is valid.
    """

    values: Tensor
    positions: tuple[int, ...]
    mask: Tensor | None

    def features(self, values: Tensor) -> Tensor:
        """Rows (n, d) as features (b, d, *grid); zero where masked."""
        return rearrange(self._placed(values, 0), "b ... d -> b d ...")

    def codes(self, codes: Tensor) -> Tensor:
        """Codes (n,) as codes (b, *grid); MASKED where masked."""
        return self._placed(codes, MASKED)

    def _placed(self, values: Tensor, fill: int) -> Tensor:
        if self.mask is None:
            (placed,) = unpack(values, [self.positions], "* d" if values.ndim == 2 else "*")
            return placed
        empty = values.new_full((*self.positions, *values.shape[1:]), fill)
        return empty.index_put((self.mask,), values)


def to_rows(z: Tensor, dim: int, mask: Tensor | None = None) -> Rows:
    """The valid rows of features z (b, dim, *grid); mask: bool (b, *grid), False where a position is padding.

    Raises as `check_features` does.
    """
    check_features(z, dim, mask)
    last = rearrange(z, "b d ... -> b ... d")
    values = pack([last], "* d")[0] if mask is None else last[mask]
    wide = values.to(torch.promote_types(values.dtype, torch.float32))
    return Rows(wide, tuple(last.shape[:-1]), mask)


def check_features(z: Tensor, dim: int, mask: Tensor | None = None) -> None:
    """Raise ShapeError unless z is (b, dim, *grid) and mask bool (b, *grid), NonFiniteError for a valid NaN or infinity."""
    if z.ndim < 3 or z.shape[1] != dim or not z.is_floating_point():
        raise ShapeError(f"features: expected floats of shape (b, {dim}, *grid), got {z.dtype} of shape {tuple(z.shape)}")
    if mask is None:
        check_finite(z, "features")
        return
    positions = (z.shape[0], *z.shape[2:])
    if mask.dtype != torch.bool or tuple(mask.shape) != positions:
        raise ShapeError(f"mask: expected bool of shape {positions}, got {mask.dtype} of shape {tuple(mask.shape)}")
    check_finite(z.masked_fill(~rearrange(mask, "b ... -> b 1 ..."), 0), "features")


def check_finite(values: Tensor, what: str) -> None:
    """Raise NonFiniteError when a value is NaN or infinite."""
    bad = int((~values.isfinite()).sum())
    if bad:
        raise NonFiniteError(
            f"{what}: {bad} of {values.numel()} values are NaN or infinite; lower the learning rate or check the data"
        )
