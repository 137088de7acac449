"""Encoder and decoder: signals to feature maps, and quantized vectors back to signals."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from dvgen.interfaces.model import Model


class Encoder(Model, ABC):
    """Signals (b, channels, *size) to one feature map a quantizer, coarse first; `__init__(config, *, channels, dims)`.

    channels: channels of the signals. dims: the width of each map, as its quantizer declares it.
    Raises ConfigError when the number of dims is not the number of maps it makes.
    """

    @classmethod
    def maps(cls, config: Any) -> int:
        """How many maps an encoder of this config makes; known before it is built, because quantizers are built first."""
        return 1

    @abstractmethod
    def grids(self, size: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """The grid of each map for signals of this size, coarse first. Raises ConfigError for a size it cannot take."""

    @abstractmethod
    def forward(self, signals: Tensor) -> tuple[Tensor, ...]:
        """One map of features a quantizer, (b, any, *grid); `condition` turns it into what the quantizer sees."""

    def condition(self, map: int, features: tuple[Tensor, ...], coarser: tuple[Tensor, ...]) -> Tensor:
        """What the quantizer of map `map` sees, (b, dims[map], *grid), given the quantized vectors of the coarser maps.

        Flat encoders return `features[map]`; VQ-VAE-2 merges the coarser vectors in.
        """
        return features[map]


class Decoder(Model, ABC):
    """Quantized vectors, one map a quantizer, to signals; `__init__(config, *, channels, dims)`.

    makes: what `forward` returns. "signals", or the name of a distribution whose parameters it returns; then `signals` turns
        them into signals, and only losses that read that distribution are given the parameters.
    """

    makes: str = "signals"

    @property
    @abstractmethod
    def last_layer(self) -> nn.Parameter:
        """The weight of the layer that makes the signals, where the adaptive GAN weight is measured."""

    @abstractmethod
    def forward(self, vectors: tuple[Tensor, ...]) -> Tensor:
        """Signals (b, channels, *size), or what `makes` says, from vectors (b, dims[map], *grid) a map; not clamped."""

    def signals(self, output: Tensor) -> Tensor:
        """Signals (b, channels, *size) from what `forward` returned: the same, unless that is parameters of a distribution."""
        return output
