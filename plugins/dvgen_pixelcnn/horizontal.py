"""A layer of the horizontal stack: a place's own row, to the left of it."""

import torch
from einops import rearrange
from torch import Tensor, nn

from dvgen.blocks.row_buffer import OwnRow
from dvgen_pixelcnn.causal_conv import CausalConv, gated


class HorizontalLayer(nn.Module):
    """x + mix(dropout(gated(conv(x) + gate))): (b, h, w, d) to the same (van den Oord et al., 2016, figure 2).

    The gate (b or 1, h or 1, w or 1, 2d) holds what the vertical stack and the context add.
    """

    def __init__(self, channels: int, taps: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.conv = CausalConv(channels, (1, taps), right=0, dilation=dilation, gain=1.0)
        self.dropout = nn.Dropout(dropout)
        self.mix = nn.Linear(channels, channels)

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        return x + self.mix(self.dropout(gated(self.conv(x) + gate)))


class HorizontalSteps:
    """The layer one position at a time, row after row; without dropout. Its convolution is one matrix product."""

    def __init__(self, layer: HorizontalLayer, batch: int, width: int) -> None:
        weight = layer.conv.weight
        _, channels, _, taps = weight.shape
        self.weight = rearrange(weight, "o i 1 taps -> (taps i) o").contiguous()
        self.input = OwnRow(weight, (batch, width, channels), taps, dilation=layer.conv.dilation)
        self.mix = layer.mix

    def step(self, x: Tensor, gate: Tensor, column: int) -> Tensor:
        """The output (b, d) at one column of the row under way, from x (b, d) and the gate (b, 2d) there."""
        self.input.slots[column].copy_(x)
        return x + self.mix(gated(torch.addmm(gate, self.input.windows[column], self.weight)))
