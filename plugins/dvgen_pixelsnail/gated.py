"""The gated residual layer of PixelSNAIL."""

import torch.nn.functional as F
from torch import Tensor, nn

from dvgen_pixelsnail.causal_conv import CausalConv, ConvSteps


class GatedResidual(nn.Module):
    """x + glu(conv(dropout(elu(conv(elu(x))))) + gate bias): (b, h, w, d) to the same.

    The gate bias (b or 1, h or 1, w or 1, 2d) is where the context enters (van den Oord et al., 2016, section 2.4).
    """

    def __init__(self, channels: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.first = CausalConv(channels, channels, kernel, strict=False, bias=True)
        self.second = CausalConv(channels, 2 * channels, kernel, strict=False, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, gate_bias: Tensor) -> Tensor:
        inner = self.first(F.elu(x))
        return x + F.glu(self.second(self.dropout(F.elu(inner))) + gate_bias, dim=-1)


class GatedSteps:
    """The layer one position at a time, with the gate bias of every place; without dropout."""

    def __init__(self, layer: GatedResidual, gate_bias: Tensor, batch: int, plane: tuple[int, int]) -> None:
        self.first = ConvSteps(layer.first, batch, plane)
        self.second = ConvSteps(layer.second, batch, plane, gate_bias)

    def begin(self, row: int) -> None:
        """Begin a row."""
        self.first.begin(row)
        self.second.begin(row)

    def step(self, x: Tensor, column: int) -> Tensor:
        """The output (b, d) at one column of the row, from x (b, d) there."""
        F.elu(self.first.input.slots[column].copy_(x), inplace=True)
        F.elu(self.first.output(column, out=self.second.input.slots[column]), inplace=True)
        return x + F.glu(self.second.output(column), dim=-1)
