"""The encoder of DALL-E's discrete VAE."""

from typing import Any, final

from torch import Tensor, nn

from dvgen.blocks.strided import divided, single_width
from dvgen.blocks.weight_decay import decayed_weights
from dvgen.interfaces.autoencoder import Encoder
from dvgen_dalle.convolutions import TINY, GroupConvolutions, convolution, groups
from dvgen_dalle.pixels import to_open_interval


@final
class DALLEEncoder(Encoder):
    """A 7x7 convolution, groups of bottleneck blocks with 2x2 max-pooling between them, ReLU, a 1x1 convolution.

    Images (b, channels, h, w) to one map (b, dims[0], h/downsample, w/downsample). Ramesh et al. (2021), appendix A.1. There
    the last convolution makes the logits of all codes; here it makes what the quantizer takes, which has its own logits.
    """

    Config = GroupConvolutions

    def __init__(self, config: GroupConvolutions, *, channels: int, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.config = config
        self.first = convolution(channels, config.channels, 7)
        self.groups = nn.ModuleList(groups(config.channels, config.widths, config.blocks, (3, 3, 3, 1)))
        self.pool = nn.MaxPool2d(kernel_size=2)
        self.last = nn.Sequential(nn.ReLU(), convolution(config.widths[-1], single_width(dims, "encoder", "dalle"), 1))

    @classmethod
    def tiny(cls) -> GroupConvolutions:
        """Eight channels, two groups of one block, half size."""
        return TINY

    @classmethod
    def scaled(cls, config: GroupConvolutions, width: float) -> GroupConvolutions:
        """Channels multiplied, to a multiple of 4."""
        return config.scaled(width)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weight decay on the weights of convolutions alone."""
        return decayed_weights(self)

    def grids(self, size: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """One grid, `size` / downsample. Raises ConfigError unless size is (h, w), both multiples of downsample."""
        return (divided(size, self.config.downsample),)

    def forward(self, signals: Tensor) -> tuple[Tensor, ...]:
        """Features (b, dims[0], *grid), from images (b, channels, h, w) in [-1, 1]."""
        features = self.first(to_open_interval(signals))
        for i, group in enumerate(self.groups):
            features = group(self.pool(features) if i else features)
        return (self.last(features),)
