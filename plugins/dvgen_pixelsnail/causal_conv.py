"""Causal convolutions over a grid in raster order, whole or one position at a time.

Shapes: b batch, h w grid, d channels, k kernel width, m = k // 2 margin. Features are (b, h, w, d): their last axis is the
fast one, so that 1x1 convolutions are matrix products and oneDNN's channels-last kernels take the others as they are.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from dvgen.blocks.row_buffer import OwnRow


class CausalConv(nn.Module):
    """A k-wide convolution that sees the k // 2 rows above, and its own row up to its own position (strict: before it).

    In raster order those taps of the (k // 2 + 1, k) window are the first ones, so the weights are stored as
    (taps, inputs, outputs) with no masked entry: the kernel of the whole convolution is that and a few zeros. The strict one
    is PixelSNAIL's first layer, the sum of a down-shifted and a right-shifted convolution (Chen et al., 2018; van den Oord
    et al., 2016, section 2.3).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, strict: bool, bias: bool) -> None:
        super().__init__()
        self.kernel, self.margin, self.strict = kernel, kernel // 2, strict
        taps = self.margin * kernel + self.margin + (0 if strict else 1)
        bound = 1 / math.sqrt(taps * inputs)
        self.weight = nn.Parameter(torch.empty(taps, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(b, h, w, outputs) from x (b, h, w, inputs)."""
        window = (self.margin + 1) * self.kernel
        weight = F.pad(self.weight, (0, 0, 0, 0, 0, window - self.weight.shape[0]))
        return _convolved(F.pad(x, (0, 0, self.margin, self.margin, self.margin, 0)), _kernel(weight, self.kernel), self.bias)


class ConvSteps:
    """A causal convolution one position at a time.

    What the rows above add is known when a row begins, and is computed for the whole row at once; a position adds the taps of
    its own row, one matrix product.
    """

    def __init__(self, conv: CausalConv, batch: int, plane: tuple[int, int], bias: Tensor | None = None) -> None:
        """bias: (b or 1, h or 1, w or 1, outputs), added to the convolution's own."""
        (height, width), (_, inputs, outputs) = plane, conv.weight.shape
        self.margin, self.reach = conv.margin, min(conv.margin, height - 1)
        above, own = conv.weight.tensor_split([conv.margin * conv.kernel])
        self.kernel = _kernel(above, conv.kernel).contiguous(memory_format=torch.channels_last)
        self.weight = own.flatten(0, 1)
        total = conv.weight.new_zeros(1, height, 1, outputs)
        for part in (conv.bias, bias):
            total = total if part is None else total + part
        self.biases = total.unbind(1)
        self.input = OwnRow(conv.weight, (batch, width, inputs), len(own), strict=conv.strict)
        self.above = conv.weight.new_zeros(batch, self.reach, width + 2 * conv.margin, inputs)
        self.known = conv.weight.new_zeros(batch, width, outputs)
        self.known_at = self.known.unbind(1)

    def begin(self, row: int) -> None:
        """Begin a row; the input of all rows above has been written."""
        if row == 0:
            self.known.copy_(self.biases[row])
            return
        self.above[:, :-1] = self.above[:, 1:].clone()
        self.above[:, -1, self.margin : -self.margin] = self.input.columns[0]
        rows = min(row, self.reach)  # the first rows have fewer above them
        added = _convolved(self.above[:, -rows:], self.kernel[:, :, -rows:])
        torch.add(added.squeeze(1), self.biases[row], out=self.known)

    def output(self, column: int, out: Tensor | None = None) -> Tensor:
        """The output (b, outputs) at one column, whose input has been written to its slot; written to `out` if there is one."""
        return torch.addmm(self.known_at[column], self.input.windows[column], self.weight, out=out)


def _kernel(weight: Tensor, columns: int) -> Tensor:
    """Weights (rows * columns, inputs, outputs) as the kernel (outputs, inputs, rows, columns) of a convolution."""
    return rearrange(weight, "(rows columns) i o -> o i rows columns", columns=columns)


def _convolved(padded: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """(b, h, w, outputs) from x (b, h + rows - 1, w + columns - 1, inputs)."""
    return rearrange(F.conv2d(rearrange(padded, "b h w d -> b d h w"), kernel, bias), "b d h w -> b h w d")
