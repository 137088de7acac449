"""The decoder of VQ-VAE."""

from typing import Any, cast, final

from torch import Tensor, nn

from dvgen.blocks.strided import Convolutions, expanding, single_width
from dvgen.blocks.weight_decay import decayed_weights
from dvgen.interfaces.autoencoder import Decoder
from dvgen_vqvae.convolutions import TINY


@final
class VQVAEDecoder(Decoder):
    """The encoder mirrored: a 3x3 convolution, residual blocks, transposed 4x4 convolutions.

    Vectors (b, dims[0], *grid) to images (b, channels, h, w). VQ-VAE (van den Oord et al., 2017), section 4.1.
    `downsample` must be that of the encoder.
    """

    Config = Convolutions

    def __init__(self, config: Convolutions, *, channels: int, dims: tuple[int, ...]) -> None:
        super().__init__()
        *layers, last = expanding(single_width(dims, "decoder", "vqvae"), channels, config, config.downsample)
        self.layers = nn.Sequential(*layers)
        self.last = last

    @property
    def last_layer(self) -> nn.Parameter:
        """The weight of the layer that makes the images; a property, because a second name would save it twice."""
        return cast(nn.Parameter, self.last.weight)

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

    def forward(self, vectors: tuple[Tensor, ...]) -> Tensor:
        """Images (b, channels, h, w) from one map of vectors (b, dims[0], *grid); not clamped."""
        (only,) = vectors
        return self.last(self.layers(only))
