"""The decoder of VQ-VAE-2."""

from typing import Any, cast, final

from torch import Tensor, nn

from dvgen.blocks.weight_decay import decayed_weights
from dvgen.interfaces.autoencoder import Decoder
from dvgen_vqvae2.hierarchy import SMALL, MapsConvolutions, MapsDecoder


@final
class VQVAE2Decoder(Decoder):
    """All maps of vectors, brought to the finest grid and decoded together; as many maps as there are dims.

    Vectors (b, dims[i], *grid of map i), coarse first, to images (b, channels, h, w). VQ-VAE-2 (Razavi et al., 2019), figure
    2a. `downsample` and `step` must be those of the encoder.
    """

    Config = MapsConvolutions

    def __init__(self, config: MapsConvolutions, *, channels: int, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.maps = MapsDecoder(dims, channels, config, config.downsample)

    @property
    def last_layer(self) -> nn.Parameter:
        """The weight of the layer that makes the images; a property, because a second name would save it twice."""
        return cast(nn.Parameter, self.maps.last.weight)

    @classmethod
    def tiny(cls) -> MapsConvolutions:
        """Eight channels, one block, half size."""
        return MapsConvolutions(**SMALL)

    @classmethod
    def scaled(cls, config: MapsConvolutions, width: float) -> MapsConvolutions:
        """Both widths multiplied, at least 1."""
        return config.scaled(width)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weight decay on the weights of convolutions alone."""
        return decayed_weights(self)

    def forward(self, vectors: tuple[Tensor, ...]) -> Tensor:
        """Images (b, channels, h, w) from vectors (b, dims[i], *grid of map i); not clamped."""
        return self.maps(vectors)
