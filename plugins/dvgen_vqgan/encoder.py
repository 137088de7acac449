"""The encoder of VQGAN."""

from typing import Any, final

from torch import Tensor, nn

from dvgen.blocks.strided import divided, single_width
from dvgen.blocks.weight_decay import decayed_weights
from dvgen.interfaces.autoencoder import Encoder
from dvgen_vqgan.pyramid import TINY, Pyramid, blocks_of_level, middle
from dvgen_vqgan.resnet import Downsample, swish_convolution


@final
class VQGANEncoder(Encoder):
    """Residual blocks and attention over ever smaller maps; images (b, channels, h, w) to one map (b, dims[0], h/f, w/f).

    VQGAN (Esser et al., 2021), table 7, with the released code's 1x1 convolution to the quantizer's width at its end.
    f = 2 ** (multipliers - 1): five make f16, the four 1, 1, 2, 4 f8.
    """

    Config = Pyramid

    def __init__(self, config: Pyramid, *, channels: int, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = [nn.Conv2d(channels, config.channels, kernel_size=3, padding=1)]
        width = config.channels
        for level, outgoing in enumerate(config.widths):
            if level:
                layers.append(Downsample(width))
            attends = config.attends(level)
            layers += blocks_of_level(width, outgoing, config.blocks, attends=attends, dropout=config.dropout)
            width = outgoing
        layers += [*middle(width, config.dropout), swish_convolution(width, config.z_channels)]
        self.layers = nn.Sequential(*layers)
        self.projection = nn.Conv2d(config.z_channels, single_width(dims, "encoder", "vqgan"), kernel_size=1)

    @classmethod
    def tiny(cls) -> Pyramid:
        """Eight channels, one block, half size."""
        return TINY

    @classmethod
    def scaled(cls, config: Pyramid, width: float) -> Pyramid:
        """`channels` multiplied, to a multiple of 4; `z_channels` stays."""
        return config.scaled(width)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weight decay on the weights of convolutions alone."""
        return decayed_weights(self)

    def grids(self, size: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """One grid, `size` / f. Raises ConfigError unless size is (h, w), both multiples of f."""
        return (divided(size, self.config.factor, setting="encoder.multipliers", remedy="use fewer multipliers"),)

    def forward(self, signals: Tensor) -> tuple[Tensor, ...]:
        """Features (b, dims[0], *grid), from images (b, channels, h, w)."""
        return (self.projection(self.layers(signals)),)
