"""Encoder and decoder of VQ-VAE over one axis, for sound."""

from typing import Any, cast, final

from attrs import field, frozen
from torch import Tensor, nn

from dvgen.blocks.strided import Convolutions, contracting, divided, expanding, power_of_two, single_width
from dvgen.blocks.weight_decay import decayed_weights
from dvgen.interfaces.autoencoder import Decoder, Encoder


@frozen(kw_only=True)
class WaveConvolutions(Convolutions):
    """The fields of `vqvae`; downsample is 64, as in VQ-VAE's model of speech (section 4.3: six strided convolutions)."""

    downsample: int = field(default=64, validator=power_of_two)


TINY = WaveConvolutions(channels=8, residual_channels=4, residual_blocks=1, downsample=2)


@final
class WaveEncoder(Encoder):
    """Strided 4-wide convolutions, a 3-wide one, residual blocks, and a 1-wide one to the quantizer's width.

    Sound (b, channels, t) to one map (b, dims[0], t/downsample). VQ-VAE (van den Oord et al., 2017), section 4.1, over one
    axis.
    """

    Config = WaveConvolutions

    def __init__(self, config: WaveConvolutions, *, channels: int, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.config = config
        layers = contracting(channels, config, config.downsample, axes=1)
        layers.append(nn.Conv1d(config.channels, single_width(dims, "encoder", "vqvae-1d"), kernel_size=1))
        self.layers = nn.Sequential(*layers)

    @classmethod
    def tiny(cls) -> WaveConvolutions:
        """Eight channels, one block, half size."""
        return TINY

    @classmethod
    def scaled(cls, config: WaveConvolutions, width: float) -> WaveConvolutions:
        """Both widths multiplied, at least 1."""
        return config.scaled(width)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weight decay on the weights of convolutions alone."""
        return decayed_weights(self)

    def grids(self, size: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """One grid, (t / downsample,). Raises ConfigError unless size is (t,), a multiple of downsample."""
        return (divided(size, self.config.downsample, axes=1),)

    def forward(self, signals: Tensor) -> tuple[Tensor, ...]:
        """Features (b, dims[0], t/downsample), from sound (b, channels, t)."""
        return (self.layers(signals),)


@final
class WaveDecoder(Decoder):
    """The encoder mirrored: a 3-wide convolution, residual blocks, transposed 4-wide convolutions.

    Vectors (b, dims[0], t/downsample) to sound (b, channels, t). `downsample` must be that of the encoder.
    """

    Config = WaveConvolutions

    def __init__(self, config: WaveConvolutions, *, channels: int, dims: tuple[int, ...]) -> None:
        super().__init__()
        *layers, last = expanding(single_width(dims, "decoder", "vqvae-1d"), channels, config, config.downsample, axes=1)
        self.layers = nn.Sequential(*layers)
        self.last = last

    @property
    def last_layer(self) -> nn.Parameter:
        """The weight of the layer that makes the sound; a property, because a second name would save it twice."""
        return cast(nn.Parameter, self.last.weight)

    @classmethod
    def tiny(cls) -> WaveConvolutions:
        """Eight channels, one block, half size."""
        return TINY

    @classmethod
    def scaled(cls, config: WaveConvolutions, width: float) -> WaveConvolutions:
        """Both widths multiplied, at least 1."""
        return config.scaled(width)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weight decay on the weights of convolutions alone."""
        return decayed_weights(self)

    def forward(self, vectors: tuple[Tensor, ...]) -> Tensor:
        """Sound (b, channels, t) from one map of vectors (b, dims[0], t/downsample); not clamped."""
        (only,) = vectors
        return self.last(self.layers(only))
