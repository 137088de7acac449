"""The decoder of VQGAN."""

from typing import Any, cast, final

from torch import Tensor, nn

from dvgen.blocks.strided import single_width
from dvgen.blocks.weight_decay import decayed_weights
from dvgen.interfaces.autoencoder import Decoder
from dvgen_vqgan.pyramid import TINY, Pyramid, blocks_of_level, middle
from dvgen_vqgan.resnet import Upsample, group_norm


@final
class VQGANDecoder(Decoder):
    """Residual blocks and attention over ever larger maps; vectors (b, dims[0], *grid) to images (b, channels, h, w).

    VQGAN (Esser et al., 2021), table 7, with the released code's 1x1 convolution from the quantizer's width at its start,
    and, as there, one residual block a resolution more than the encoder. `multipliers` must be as many as the encoder's.
    """

    Config = Pyramid

    def __init__(self, config: Pyramid, *, channels: int, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.projection = nn.Conv2d(single_width(dims, "decoder", "vqgan"), config.z_channels, kernel_size=1)
        width = config.widths[-1]
        layers: list[nn.Module] = [nn.Conv2d(config.z_channels, width, kernel_size=3, padding=1)]
        layers += middle(width, config.dropout)
        for level, outgoing in reversed(list(enumerate(config.widths))):
            attends = config.attends(level)
            layers += blocks_of_level(width, outgoing, config.blocks + 1, attends=attends, dropout=config.dropout)
            width = outgoing
            if level:
                layers.append(Upsample(width))
        self.layers = nn.Sequential(*layers, group_norm(width), nn.SiLU())
        self.last = nn.Conv2d(width, channels, kernel_size=3, padding=1)

    @property
    def last_layer(self) -> nn.Parameter:
        """The weight of the layer that makes the images; a property, because a second name would save it twice."""
        return cast(nn.Parameter, self.last.weight)

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

    def forward(self, vectors: tuple[Tensor, ...]) -> Tensor:
        """Images (b, channels, h, w) from one map of vectors (b, dims[0], *grid); not clamped."""
        (only,) = vectors
        return self.last(self.layers(self.projection(only)))
