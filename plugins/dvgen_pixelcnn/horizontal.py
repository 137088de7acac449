"""A layer of the horizontal stack: a place's own row, to the left of it."""

from torch import Tensor, nn

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
        return self._mixed(x, self.conv(x), gate)

    def cache(self, batch: int, width: int) -> Tensor:
        """An empty cache for one row, and for the next: it is overwritten from the left, and never read right of its place."""
        return self.conv.cache(batch, 1, width)

    def step(self, x: Tensor, gate: Tensor, cache: Tensor, column: int) -> Tensor:
        """The output (b, 1, 1, d) at one column of the row under way, from x (b, 1, 1, d) and the gate (b, 1, 1, 2d) there."""
        return self._mixed(x, self.conv.extend(x, cache, 0, column), gate)

    def _mixed(self, x: Tensor, convolved: Tensor, gate: Tensor) -> Tensor:
        return x + self.mix(self.dropout(gated(convolved + gate)))
