"""The vertical stack: all that a place may know of the rows above it, without a blind spot."""

from collections.abc import Callable, Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from dvgen_pixelcnn.causal_conv import CausalConv, gated

# A gate halves small signals, since sigmoid(0) = 1/2, and this stack has no residual connections: with less, what the deep
# layers see vanishes at the start, and with it the far rows.
GAIN = 2.0


class VerticalStack(nn.Module):
    """Gated convolutions over the rows above; what each of them adds to the gate of the horizontal layer of its depth.

    The codes enter moved one row down, so a row of the stack never holds codes of that row, and its windows may be as wide to
    the right as to the left. No residual connections (van den Oord et al., 2016, section 2.2 and figure 2). The 1x1
    connection takes the convolution before the gate's bias: the horizontal gate has a bias of its own, and so the last
    layer needs none.
    """

    def __init__(self, channels: int, kernels: Sequence[int], dilations: Sequence[int]) -> None:
        super().__init__()
        first, *later = kernels
        windows = [(first // 2, first), *((kernel // 2 + 1, kernel) for kernel in later)]
        self.layers = nn.ModuleList(
            CausalConv(channels, window, right=window[1] // 2, dilation=dilation, gain=GAIN)
            for window, dilation in zip(windows, dilations, strict=True)
        )
        self.across = nn.ModuleList(nn.Linear(2 * channels, 2 * channels, bias=False) for _ in kernels)

    def forward(self, codes: Tensor, gate_biases: Sequence[Tensor]) -> list[Tensor]:
        """(b, h, w, 2d) a layer, from the embedded codes (b, h, w, d) and a bias a layer but the last."""
        return self._descended(F.pad(codes, (0, 0, 0, 0, 1, -1)), gate_biases, list(self.layers))

    def caches(self, batch: int, height: int, width: int) -> list[Tensor]:
        """Empty caches, one a layer."""
        return [layer.cache(batch, height, width) for layer in self.layers]  # type: ignore[operator]

    def row(self, above: Tensor, gate_biases: Sequence[Tensor], caches: Sequence[Tensor], row: int) -> list[Tensor]:
        """One row, (b, 1, w, 2d) a layer, from the embedded codes (b, 1, w, d) of the row above it and that row's biases."""
        layers = [
            partial(layer.extend, cache=cache, row=row, column=0)  # type: ignore[operator,misc,arg-type]
            for layer, cache in zip(self.layers, caches, strict=True)
        ]
        return self._descended(above, gate_biases, layers)

    def _descended(
        self, x: Tensor, gate_biases: Sequence[Tensor], layers: Sequence[Callable[[Tensor], Tensor]]
    ) -> list[Tensor]:
        added = []
        for layer, across, bias in zip(layers, self.across, [*gate_biases, None], strict=True):
            convolved = layer(x)
            added.append(across(convolved))
            if bias is not None:
                x = gated(convolved + bias)
        return added
