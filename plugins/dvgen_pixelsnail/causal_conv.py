"""Causal convolutions over a grid in raster order, whole or one position at a time.

Shapes: b batch, h w grid, d channels, k kernel width, m = k // 2 margin. Features are (b, h, w, d): their last axis is the
fast one, so that 1x1 convolutions are matrix products and oneDNN's channels-last kernels take the others as they are.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class CausalConv(nn.Module):
    """A k-wide convolution that sees the k // 2 rows above, and its own row up to its own position (strict: before it).

    In raster order those taps of the (k // 2 + 1, k) window are the first ones, so the weights are stored as
    (taps, inputs, outputs) with no masked entry: the kernel of the whole convolution is that and a few zeros, and one
    position is one matrix product with the head of its window. The strict one is PixelSNAIL's first layer, the sum of a
    down-shifted and a right-shifted convolution (Chen et al., 2018; van den Oord et al., 2016, section 2.3).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, strict: bool, bias: bool) -> None:
        super().__init__()
        self.kernel, self.margin = kernel, kernel // 2
        taps = self.margin * kernel + self.margin + (0 if strict else 1)
        bound = 1 / math.sqrt(taps * inputs)
        self.weight = nn.Parameter(torch.empty(taps, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(b, h, w, outputs) from x (b, h, w, inputs)."""
        window = (self.margin + 1) * self.kernel
        weight = F.pad(self.weight, (0, 0, 0, 0, 0, window - self.weight.shape[0]))
        weight = rearrange(weight, "(rows columns) i o -> o i rows columns", columns=self.kernel)
        padded = F.pad(x, (0, 0, self.margin, self.margin, self.margin, 0))
        return rearrange(F.conv2d(rearrange(padded, "b h w d -> b d h w"), weight, self.bias), "b d h w -> b h w d")

    def cache(self, batch: int, height: int, width: int) -> Tensor:
        """An empty record of this layer's input, with the margins that `forward` pads."""
        shape = (batch, height + self.margin, width + 2 * self.margin, self.weight.shape[1])
        return self.weight.new_zeros(shape)

    def write(self, cache: Tensor, x: Tensor, row: int, column: int) -> None:
        """Record the input x (b, inputs) at one position."""
        cache[:, row + self.margin, column + self.margin] = x

    def read(self, cache: Tensor, row: int, column: int) -> Tensor:
        """The output (b, outputs) at one position, from the inputs recorded so far."""
        window = cache[:, row : row + self.margin + 1, column : column + self.kernel]
        weight = rearrange(self.weight, "taps i o -> (taps i) o")
        seen = rearrange(window, "b rows columns d -> b (rows columns d)")[:, : weight.shape[0]]
        return seen @ weight if self.bias is None else torch.addmm(self.bias, seen, weight)
