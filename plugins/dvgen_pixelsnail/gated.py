"""The gated residual layer of PixelSNAIL."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from dvgen_pixelsnail.causal_conv import CausalConv


class GatedCache(NamedTuple):
    """What the two convolutions of one layer have seen, filled in place."""

    first: Tensor
    second: Tensor


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

    def cache(self, batch: int, height: int, width: int) -> GatedCache:
        """An empty cache for grids of this size."""
        return GatedCache(self.first.cache(batch, height, width), self.second.cache(batch, height, width))

    def step(self, x: Tensor, gate_bias: Tensor, cache: GatedCache, place: tuple[int, int]) -> Tensor:
        """The output (b, d) at one (row, column), from x (b, d) there and the gate bias (b, 2d) there."""
        self.first.write(cache.first, F.elu(x), *place)
        inner = self.first.read(cache.first, *place)
        self.second.write(cache.second, F.elu(inner), *place)
        return x + F.glu(self.second.read(cache.second, *place) + gate_bias, dim=-1)
