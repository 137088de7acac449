"""Convolutions that look back, whole or one block of their output at a time, and the gate that follows them.

Shapes: b batch, h w grid, d channels. Features are (b, h, w, d): 1x1 convolutions are then linear layers, and the others
get the channels-last layout that oneDNN's kernels take as it is.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class CausalConv(nn.Module):
    """A dilated convolution over a window of `rows` rows, its own the last, and `columns` columns, the last `right` of them
    to the right of its own: (b, h, w, d) to (b, h, w, 2d), zeros beyond the border, no bias.

    gain: standard deviation of the output for inputs of unit variance, at the start.
    """

    def __init__(self, channels: int, window: tuple[int, int], *, right: int, dilation: int, gain: float) -> None:
        super().__init__()
        rows, columns = window
        self.dilation = dilation
        self.top, self.left, self.right = ((rows - 1) * dilation, (columns - 1 - right) * dilation, right * dilation)
        bound = gain * math.sqrt(3 / (rows * columns * channels))
        self.weight = nn.Parameter(torch.empty(2 * channels, channels, rows, columns).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """(b, h, w, 2d) from x (b, h, w, d)."""
        return self._convolved(F.pad(x, (0, 0, self.left, self.right, self.top, 0)))

    def cache(self, batch: int, height: int, width: int) -> Tensor:
        """An empty record of the input, with the margins that `forward` pads."""
        return self.weight.new_zeros(batch, height + self.top, width + self.left + self.right, self.weight.shape[1])

    def extend(self, x: Tensor, cache: Tensor, row: int, column: int) -> Tensor:
        """Record a block x (b, rows, columns, d) of the input that begins at a place, and return the output on that block.

        What the block's windows hold beside itself must have been recorded before.
        """
        height, width = x.shape[1:3]
        inner = cache[:, row : row + self.top + height, column : column + self.left + width + self.right]
        inner[:, self.top :, self.left : self.left + width] = x
        return self._convolved(inner)

    def _convolved(self, padded: Tensor) -> Tensor:
        out = F.conv2d(rearrange(padded, "b h w d -> b d h w"), self.weight, dilation=self.dilation)
        return rearrange(out, "b d h w -> b h w d")


def gated(x: Tensor) -> Tensor:
    """tanh(first half of the channels) * sigmoid(second half), (..., 2d) to (..., d): van den Oord et al., 2016, equation 2."""
    signal, gate = x.chunk(2, dim=-1)
    return torch.tanh(signal) * torch.sigmoid(gate)
