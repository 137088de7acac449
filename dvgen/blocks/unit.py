"""Rows of length one."""

import torch
from torch import Tensor


def unit(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (n, d) brought to length one, and the lengths they had (n, 1); at any scale. A row of zeros stays zero.

    Differentiable; the gradient of a row of zeros is zero.
    """
    # squares of very small or very large values would underflow or overflow
    largest = rows.detach().abs().amax(dim=1, keepdim=True)
    scale = torch.where(largest > 0, largest, 1)
    within = rows / scale
    squares = within.square().sum(dim=1, keepdim=True)
    length = torch.where(largest > 0, squares, 1).sqrt()
    return torch.where(largest > 0, within / length, 0), torch.where(largest > 0, length * scale, 0)
