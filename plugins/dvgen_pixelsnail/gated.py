"""The gated residual layer of PixelSNAIL."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dvgen_pixelsnail.causal_conv import CausalConv, ConvSteps


class GatedResidual(nn.Module):
    """x + glu(conv(dropout(elu(conv(elu(x))))) + gate bias): (b, h, w, d) to the same.

    The gate bias (b or 1, h or 1, w or 1, 2d) is where the context enters (van den Oord et al., 2016, section 2.3).
    """

    def __init__(self, channels: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.first = CausalConv(channels, channels, kernel, strict=False, bias=True)
        self.second = CausalConv(channels, 2 * channels, kernel, strict=False, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, gate_bias: Tensor) -> Tensor:
        inner = self.first(F.elu(x))
        return x + F.glu(self.second(self.dropout(F.elu(inner)), gate_bias), dim=-1)


class GatedSteps:
    """The layer one position at a time, with the gate bias of every place; without dropout.

    The first convolution writes to where the second reads.
    """

    def __init__(self, layer: GatedResidual, gate_bias: Tensor, batch: int, plane: tuple[int, int]) -> None:
        self.second = ConvSteps(layer.second, batch, plane, gate_bias)
        self.first = ConvSteps(layer.first, batch, plane, into=self.second.input)
        self.gates = [output.chunk(2, dim=1) for output in self.second.outputs]

    def begin(self, row: int) -> None:
        """Begin a row."""
        self.second.begin(row)  # before the first one overwrites the row above
        self.first.begin(row)

    def step(self, x: Tensor, column: int) -> Tensor:
        """The output (b, d) at one column of the row, from x (b, d) there."""
        F.elu(self.first.input.slots[column].copy_(x), inplace=True)
        F.elu(self.first.step(column), inplace=True)
        self.second.step(column)
        values, gates = self.gates[column]
        return torch.addcmul(x, values, gates.sigmoid_())
