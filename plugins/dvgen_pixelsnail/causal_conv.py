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
from dvgen.interfaces.packing import linear


class CausalConv(nn.Module):
    """A k-wide convolution that sees the k // 2 rows above, and its own row up to its own position (strict: before it).

    In raster order those taps of the (k // 2 + 1, k) window are the first ones, so the weights are stored as
    (taps, inputs, outputs) with no masked entry: the kernel of the whole convolution is that and a few zeros. The strict one
    is PixelSNAIL's first layer, the sum of a down-shifted and a right-shifted convolution (Chen et al., 2018; van den Oord
    et al., 2016, section 2.2).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, strict: bool, bias: bool) -> None:
        super().__init__()
        self.kernel, self.margin, self.strict = kernel, kernel // 2, strict
        taps = self.margin * kernel + self.margin + (0 if strict else 1)
        bound = 1 / math.sqrt(taps * inputs)
        self.weight = nn.Parameter(torch.empty(taps, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(b, h, w, outputs) from x (b, h, w, inputs).

        bias: (b or 1, h or 1, w or 1, outputs), of a convolution without one of its own.
        """
        window = (self.margin + 1) * self.kernel
        weight = F.pad(self.weight, (0, 0, 0, 0, 0, window - self.weight.shape[0]))
        padded = F.pad(x, (0, 0, self.margin, self.margin, self.margin, 0))
        if bias is not None and bias.shape[:3] == (1, 1, 1):  # one for all places costs no pass of its own
            return _convolved(padded, _kernel(weight, self.kernel), bias.flatten())
        convolved = _convolved(padded, _kernel(weight, self.kernel), self.bias)
        return convolved if bias is None else convolved + bias


class ConvSteps:
    """A causal convolution one position at a time.

    What the rows above add is known when a row begins, and is computed for the whole row at once, as one matrix product of all
    its windows; a position adds the taps of its own row, one product more.
    """

    def __init__(
        self,
        conv: CausalConv,
        batch: int,
        plane: tuple[int, int],
        bias: Tensor | None = None,
        *,
        into: OwnRow | None = None,
    ) -> None:
        """bias: (b or 1, h or 1, w or 1, outputs), added to the convolution's own. into: where the outputs of a row lie."""
        (height, width), (_, inputs, outputs) = plane, conv.weight.shape
        margin, reach = conv.margin, min(conv.margin, height - 1)
        above, own = conv.weight.tensor_split([margin * conv.kernel])
        rows_above = above[(margin - reach) * conv.kernel :].flatten(0, 1)
        self.from_above = linear(rows_above.T.contiguous(), None, batch * width)
        self.weight = own.flatten(0, 1)
        total = conv.weight.new_zeros(1, height, 1, outputs)
        for part in (conv.bias, bias):
            total = total if part is None else total + part
        self.biases = total.unbind(1)
        self.input = OwnRow(conv.weight, (batch, width, inputs), len(own), strict=conv.strict)
        self.above = conv.weight.new_zeros(batch, reach, width + 2 * margin, inputs)
        self.below = self.above[:, -1:, margin:-margin].squeeze(1)
        windows = self.above.flatten(2).unfold(2, conv.kernel * inputs, inputs)
        self.windows = rearrange(windows, "b rows w taps -> b w rows taps")
        self.output = conv.weight.new_zeros(batch, width, outputs) if into is None else into.columns[0]
        self.outputs = self.output.unbind(1)

    def begin(self, row: int) -> None:
        """Begin a row; the input of all rows above has been written."""
        if row == 0:
            self.output.copy_(self.biases[row])
            return
        self.above[:, :-1] = self.above[:, 1:].clone()
        self.below.copy_(self.input.columns[0])
        torch.add(self.from_above(self.windows.flatten(2)), self.biases[row], out=self.output)

    def step(self, column: int) -> Tensor:
        """The output (b, outputs) at one column, whose input has been written to its slot; once a row."""
        return self.outputs[column].addmm_(self.input.windows[column], self.weight)


def _kernel(weight: Tensor, columns: int) -> Tensor:
    """Weights (rows * columns, inputs, outputs) as the kernel (outputs, inputs, rows, columns) of a convolution."""
    return rearrange(weight, "(rows columns) i o -> o i rows columns", columns=columns)


def _convolved(padded: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """(b, h, w, outputs) from x (b, h + rows - 1, w + columns - 1, inputs)."""
    return rearrange(F.conv2d(rearrange(padded, "b h w d -> b d h w"), kernel, bias), "b d h w -> b h w d")
