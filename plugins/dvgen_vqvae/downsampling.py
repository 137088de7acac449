"""The downsampling factor that encoder and decoder share."""

from typing import Any

from dvgen.errors import ConfigError


def power_of_two(instance: object, attribute: Any, value: int) -> None:
    """attrs validator: 1, 2, 4, 8, ..."""
    if value < 1 or value & (value - 1):
        raise ValueError(f"'{attribute.name}' must be a power of two (1, 2, 4, 8, ...): {value}")


def halvings(factor: int) -> int:
    """How many layers of stride two make this factor."""
    return factor.bit_length() - 1


def single_width(dims: tuple[int, ...], part: str) -> int:
    """The width of the one map. Raises ConfigError when there are several."""
    if len(dims) != 1:
        raise ConfigError(f"{part}: vqvae makes one map and takes one quantizer, not {len(dims)}; choose a hierarchical {part}")
    return dims[0]
