"""The encoder of VQ-VAE."""

from typing import Any, final

from torch import Tensor, nn

from dvgen.blocks.strided import Convolutions, contracting, divided, laid_out, single_width
from dvgen.blocks.weight_decay import decayed_weights
from dvgen.interfaces.autoencoder import Encoder
from dvgen_vqvae.convolutions import TINY


@final
class VQVAEEncoder(Encoder):
    """Strided 4x4 convolutions, a 3x3 convolution, residual blocks, and a 1x1 convolution to the quantizer's width.

    Images (b, channels, h, w) to one map (b, dims[0], h/downsample, w/downsample). VQ-VAE (van den Oord et al., 2017),
    section 4.1.
    """

    Config = Convolutions

    def __init__(self, config: Convolutions, *, channels: int, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.config = config
        layers = contracting(channels, config, config.downsample)
        layers.append(nn.Conv2d(config.channels, single_width(dims, "encoder", "vqvae"), kernel_size=1))
        self.layers = nn.Sequential(*layers)

    @classmethod
    def tiny(cls) -> Convolutions:
        """Eight channels, one block, half size."""
        return TINY

    @classmethod
    def scaled(cls, config: Convolutions, width: float) -> Convolutions:
        """Both widths multiplied, at least 1."""
        return config.scaled(width)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weight decay on the weights of convolutions alone."""
        return decayed_weights(self)

    def grids(self, size: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """One grid, `size` / downsample. Raises ConfigError unless size is (h, w), both multiples of downsample."""
        return (divided(size, self.config.downsample),)

    def forward(self, signals: Tensor) -> tuple[Tensor, ...]:
        """Features (b, dims[0], *grid), from images (b, channels, h, w)."""
        return (self.layers(laid_out(signals)),)
