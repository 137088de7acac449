"""The decoder of VQ-VAE."""

from typing import cast, final

from attrs import evolve, field, frozen
from attrs.validators import ge
from torch import Tensor, nn

from dvgen.blocks.residual import residual_stack
from dvgen.interfaces.autoencoder import Decoder
from dvgen_vqvae.downsampling import halvings, power_of_two, single_width


@final
class VQVAEDecoder(Decoder):
    """The encoder mirrored: a 3x3 convolution, residual blocks, transposed 4x4 convolutions.

    Vectors (b, dims[0], *grid) to images (b, channels, h, w). VQ-VAE (van den Oord et al., 2017), section 4.1.
    `downsample` must be that of the encoder.
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
        width = config.channels
        layers: list[nn.Module] = [
            nn.Conv2d(single_width(dims, "decoder"), width, kernel_size=3, padding=1),
            residual_stack(width, config.residual_channels, config.residual_blocks),
        ]
        doublings = halvings(config.downsample)
        incoming = width
        for i in range(doublings - 1):
            outgoing = max(1, width // 2) if i == doublings - 2 else width
            layers += [nn.ConvTranspose2d(incoming, outgoing, kernel_size=4, stride=2, padding=1), nn.ReLU()]
            incoming = outgoing
        self.layers = nn.Sequential(*layers)
        self.last: nn.ConvTranspose2d | nn.Conv2d
        if doublings:
            self.last = nn.ConvTranspose2d(incoming, channels, kernel_size=4, stride=2, padding=1)
        else:
            self.last = nn.Conv2d(incoming, channels, kernel_size=3, padding=1)

    @property
    def last_layer(self) -> nn.Parameter:
        """The weight of the layer that makes the images; a property, because a second name would save it twice."""
        return cast(nn.Parameter, self.last.weight)

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

    def forward(self, vectors: tuple[Tensor, ...]) -> Tensor:
        """Images (b, channels, h, w) from one map of vectors (b, dims[0], *grid); not clamped."""
        (only,) = vectors
        return self.last(self.layers(only))
