"""The encoder of VQ-VAE."""

from typing import final

from torch import Tensor, nn

from dvgen.blocks.residual import residual_stack
from dvgen.errors import ConfigError
from dvgen.interfaces.autoencoder import Encoder
from dvgen_vqvae.convolutions import TINY, Convolutions, halvings, single_width


@final
class VQVAEEncoder(Encoder):
    """Strided 4x4 convolutions, a 3x3 convolution, residual blocks, and a 1x1 convolution to the quantizer's width.

    Images (b, channels, h, w) to one map (b, dims[0], h/downsample, w/downsample). VQ-VAE (van den Oord et al., 2017),
    section 4.1; widths (half, then full) and the closing ReLU as in Sonnet's example.
    """

    Config = Convolutions

    def __init__(self, config: Convolutions, *, channels: int, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.config = config
        width = config.channels
        layers: list[nn.Module] = []
        incoming = channels
        for i in range(halvings(config.downsample)):
            outgoing = max(1, width // 2) if i == 0 else width
            layers += [nn.Conv2d(incoming, outgoing, kernel_size=4, stride=2, padding=1), nn.ReLU()]
            incoming = outgoing
        layers += [
            nn.Conv2d(incoming, width, kernel_size=3, padding=1),
            residual_stack(width, config.residual_channels, config.residual_blocks),
            nn.Conv2d(width, single_width(dims, "encoder"), kernel_size=1),
        ]
        self.layers = nn.Sequential(*layers)

    @classmethod
    def tiny(cls) -> Convolutions:
        """Eight channels, one block, half size."""
        return TINY

    @classmethod
    def scaled(cls, config: Convolutions, width: float) -> Convolutions:
        """Both widths multiplied, at least 1."""
        return config.scaled(width)

    def grids(self, size: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """One grid, `size` / downsample. Raises ConfigError unless size is (h, w), both multiples of downsample."""
        factor = self.config.downsample
        if len(size) != 2 or any(side < factor or side % factor for side in size):
            text = "x".join(map(str, size))
            raise ConfigError(
                f"encoder.downsample: images of size {text} cannot be divided by {factor}; "
                "use an encoder.downsample that divides height and width, or resize the images"
            )
        return (tuple(side // factor for side in size),)

    def forward(self, signals: Tensor) -> tuple[Tensor, ...]:
        """Features (b, dims[0], *grid), from images (b, channels, h, w)."""
        return (self.layers(signals),)
