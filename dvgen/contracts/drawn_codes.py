"""Codes that were drawn, by a source or a prior: that they are codes of their levels, and that two draws are the same."""

import torch

from dvgen.contracts.law import require, require_equal
from dvgen.interfaces.codes import Codes, Level


def require_codes(found: Codes, levels: tuple[Level, ...], count: int, what: str) -> None:
    """Raise Broken unless these are `count` draws: int64 (count, *grid), one tensor a level, 0 <= code < num_codes."""
    require(isinstance(found, tuple), f"{what} are a {type(found).__name__}, expected a tuple with one tensor a level")
    require(len(found) == len(levels), f"{len(found)} tensors of {what} for {len(levels)} levels")
    for code, level in zip(found, levels, strict=True):
        where = f"level {level.name!r}: {what}"
        require(code.dtype == torch.int64, f"{where} are {code.dtype}, expected int64")
        wanted = (count, *level.grid)
        require(tuple(code.shape) == wanted, f"{where} of shape {tuple(code.shape)}, expected {wanted}")
        least, most = int(code.min()), int(code.max())
        right = least >= 0 and most < level.num_codes
        require(right, f"{where} in {least}..{most}, expected 0..{level.num_codes - 1}")


def require_same_codes(found: Codes, expected: Codes, what: str) -> None:
    """Raise Broken unless the codes of every level are the same."""
    for one, other in zip(found, expected, strict=True):
        require_equal(one, other, what)
