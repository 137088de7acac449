"""The encoder of VQ-VAE-2."""

from typing import Any, final

import torch
from torch import Tensor, nn

from dvgen.blocks.strided import contracting, divided, laid_out
from dvgen.blocks.weight_decay import decayed_weights
from dvgen.errors import ConfigError
from dvgen.interfaces.autoencoder import Encoder
from dvgen_vqvae2.hierarchy import SMALL, Hierarchy, MapsDecoder


@final
class VQVAE2Encoder(Encoder):
    """Images (b, channels, h, w) to features of several maps, each finer one quantized in the light of the coarser ones.

    The image is contracted to the finest map, that to the next coarser one, and so on up. Downwards, the quantizer of a map
    sees a 1x1 convolution of its features and of all coarser vectors, decoded to its grid; the coarsest, of its features.
    VQ-VAE-2 (Razavi et al., 2019), figure 2a and algorithm 1, for any number of maps: where that has one coarser map, all of
    them are decoded together. Raises ConfigError unless there are as many dims as maps.
    """

    Config = Hierarchy

    def __init__(self, config: Hierarchy, *, channels: int, dims: tuple[int, ...]) -> None:
        super().__init__()
        if len(dims) != config.maps:
            raise ConfigError(f"encoder: {config.maps} maps take {config.maps} quantizers, not {len(dims)}; set encoder.maps")
        self.config = config
        width, finest = config.channels, config.maps - 1
        contractions = [
            contracting(width, config, config.step) if i < finest else contracting(channels, config, config.downsample)
            for i in range(config.maps)
        ]
        self.contractions = nn.ModuleList(nn.Sequential(*layers) for layers in contractions)
        # from map 1 on, as map 0 has no coarser one; each decodes to the width of the map that it helps
        self.decoders = nn.ModuleList(MapsDecoder(dims[:i], dims[i], config, config.step) for i in range(1, config.maps))
        self.projections = nn.ModuleList(nn.Conv2d(width + (dim if i else 0), dim, kernel_size=1) for i, dim in enumerate(dims))

    @classmethod
    def maps(cls, config: Hierarchy) -> int:
        """As many as its config says."""
        return config.maps

    @classmethod
    def tiny(cls) -> Hierarchy:
        """Eight channels, one block, half size and a quarter."""
        return Hierarchy(**SMALL)

    @classmethod
    def scaled(cls, config: Hierarchy, width: float) -> Hierarchy:
        """Both widths multiplied, at least 1."""
        return config.scaled(width)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weight decay on the weights of convolutions alone."""
        return decayed_weights(self)

    def grids(self, size: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """`size` / downsample for the finest map, and / step for each coarser one.

        Raises ConfigError unless size is (h, w) and the coarsest grid comes out whole.
        """
        factors = [self.config.downsample * self.config.step**i for i in reversed(range(self.config.maps))]
        remedy = "use another encoder.downsample or encoder.step, or fewer encoder.maps"
        return tuple(divided(size, factor, remedy=remedy) for factor in factors)

    def forward(self, signals: Tensor) -> tuple[Tensor, ...]:
        """Features (b, config.channels, *grid) of every map, coarse first, from images (b, channels, h, w)."""
        features: tuple[Tensor, ...] = ()
        for contraction in reversed(self.contractions):
            features = (contraction(features[0] if features else laid_out(signals)), *features)
        return features

    def condition(self, map: int, features: tuple[Tensor, ...], coarser: tuple[Tensor, ...]) -> Tensor:
        """What the quantizer of this map sees, (b, dims[map], *grid), from the vectors (b, dims[i], *grid) of the `map` coarser
        ones.
        """
        own = features[map]
        if map:
            own = torch.cat([self.decoders[map - 1](coarser), own], dim=1)
        return self.projections[map](own)
