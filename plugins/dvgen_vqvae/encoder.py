"""The encoder of VQ-VAE."""

from typing import final

from attrs import evolve, field, frozen
from attrs.validators import ge
from torch import Tensor, nn

from dvgen.blocks.residual import residual_stack
from dvgen.errors import ConfigError
from dvgen.interfaces.autoencoder import Encoder
from dvgen_vqvae.downsampling import halvings, power_of_two, single_width


@final
class VQVAEEncoder(Encoder):
    """Strided 4x4 convolutions, a 3x3 convolution, residual blocks, and a 1x1 convolution to the quantizer's width.

    Images (b, channels, h, w) to one map (b, dims[0], h/downsample, w/downsample). VQ-VAE (van den Oord et al., 2017),
    section 4.1; widths (half, then full) and the closing ReLU as in Sonnet's example.
    """

    @frozen(kw_only=True)
    class Config:
        """channels: hidden width. residual_channels, residual_blocks: the stack. downsample: 1, 2, 4, 8, ..."""

        channels: int = field(default=64, validator=ge(1))
        residual_channels: int = field(default=32, validator=ge(1))
        residual_blocks: int = field(default=2, validator=ge(0))
        downsample: int = field(default=4, validator=power_of_two)

    def __init__(self, config: Config, *, channels: int, dims: tuple[int, ...]) -> None:
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
    def tiny(cls) -> Config:
        """Eight channels, one block, half size."""
        return cls.Config(channels=8, residual_channels=4, residual_blocks=1, downsample=2)

    @classmethod
    def scaled(cls, config: Config, width: float) -> Config:
        """Both widths multiplied, at least 1."""
        return evolve(
            config,
            channels=max(1, round(config.channels * width)),
            residual_channels=max(1, round(config.residual_channels * width)),
        )

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
