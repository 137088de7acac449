"""The config that encoder and decoder share, and the downsampling factor in it."""

from typing import Any, Self

from attrs import evolve, field, frozen
from attrs.validators import ge

from dvgen.errors import ConfigError


def power_of_two(instance: object, attribute: Any, value: int) -> None:
    """attrs validator: 1, 2, 4, 8, ..."""
    if value < 1 or value & (value - 1):
        raise ValueError(f"'{attribute.name}' must be a power of two (1, 2, 4, 8, ...): {value}")


@frozen(kw_only=True)
class Convolutions:
    """channels: hidden width. residual_channels, residual_blocks: the stack. downsample: 1, 2, 4, 8, ..."""

    channels: int = field(default=64, validator=ge(1))
    residual_channels: int = field(default=32, validator=ge(1))
    residual_blocks: int = field(default=2, validator=ge(0))
    downsample: int = field(default=4, validator=power_of_two)

    def scaled(self, width: float) -> Self:
        """Both widths multiplied, at least 1."""
        channels, residual = (max(1, round(n * width)) for n in (self.channels, self.residual_channels))
        return evolve(self, channels=channels, residual_channels=residual)


TINY = Convolutions(channels=8, residual_channels=4, residual_blocks=1, downsample=2)


def halvings(factor: int) -> int:
    """How many layers of stride two make this factor."""
    return factor.bit_length() - 1


def single_width(dims: tuple[int, ...], part: str) -> int:
    """The width of the one map. Raises ConfigError when there are several."""
    if len(dims) != 1:
        raise ConfigError(f"{part}: vqvae makes one map and takes one quantizer, not {len(dims)}; choose a hierarchical {part}")
    return dims[0]
