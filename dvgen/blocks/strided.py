"""The strided and transposed convolutions of VQ-VAE's encoder and decoder, over one axis or two, and their config."""

from typing import Any, Self

import torch
from attrs import evolve, field, frozen
from attrs.validators import ge
from torch import Tensor, nn

from dvgen.blocks.residual import CONVOLUTIONS, residual_stack
from dvgen.errors import ConfigError

TRANSPOSED: dict[int, type[nn.ConvTranspose1d | nn.ConvTranspose2d]] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}


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


def halvings(factor: int) -> int:
    """How many layers of stride two make this factor."""
    return factor.bit_length() - 1


def divided(
    size: tuple[int, ...],
    factor: int,
    *,
    axes: int = 2,
    setting: str = "encoder.downsample",
    remedy: str = "use another encoder.downsample",
) -> tuple[int, ...]:
    """`size` / factor. Raises ConfigError, with the setting that makes the factor and how to change it, unless size has
    `axes` sides, all multiples of factor.
    """
    if len(size) != axes or any(side < factor or side % factor for side in size):
        text, sides = "x".join(map(str, size)), "a length" if axes == 1 else "a height and a width"
        raise ConfigError(
            f"{setting}: signals of size {text} cannot be divided by {factor}; "
            f"expected {sides} that it divides; {remedy}, other signals, or an encoder for these"
        )
    return tuple(side // factor for side in size)


def single_width(dims: tuple[int, ...], part: str, name: str) -> int:
    """The width of the one map of a flat encoder or decoder (`part`), `name`. Raises ConfigError when there are several."""
    if len(dims) != 1:
        raise ConfigError(
            f"{part}: {name} makes one map and takes one quantizer, not {len(dims)}; choose a hierarchical {part}"
        )
    return dims[0]


def laid_out(images: Tensor) -> Tensor:
    """The same images (b, channels, h, w), in memory as convolutions and a search among positions like to read them.

    On a CPU channels lie last: oneDNN need not lay every map out anew, and the rows of a quantizer are there already. A layer
    goes on with the layout it is given. Elsewhere it was not measured, and nothing changes.
    """
    return images.contiguous(memory_format=torch.channels_last) if images.device.type == "cpu" else images


def contracting(channels: int, config: Convolutions, factor: int, *, axes: int = 2) -> list[nn.Module]:
    """Layers (b, channels, *size) to (b, config.channels, *size / factor): strided 4-wide convolutions, a 3-wide one, a stack.

    VQ-VAE (van den Oord et al., 2017), section 4.1; widths (half, then full) and the closing ReLU as in Sonnet's example.
    """
    width, convolution = config.channels, CONVOLUTIONS[axes]
    layers: list[nn.Module] = []
    for i in range(halvings(factor)):
        outgoing = max(1, width // 2) if i == 0 else width
        layers += [convolution(channels, outgoing, kernel_size=4, stride=2, padding=1), nn.ReLU()]
        channels = outgoing
    return [
        *layers,
        convolution(channels, width, kernel_size=3, padding=1),
        residual_stack(width, config.residual_channels, config.residual_blocks, axes=axes),
    ]


def expanding(dim: int, channels: int, config: Convolutions, factor: int, *, axes: int = 2) -> list[nn.Module]:
    """Layers (b, dim, *grid) to (b, channels, *grid * factor): `contracting` mirrored; the last layer makes the channels."""
    width, convolution, transposed = config.channels, CONVOLUTIONS[axes], TRANSPOSED[axes]
    layers: list[nn.Module] = [
        convolution(dim, width, kernel_size=3, padding=1),
        residual_stack(width, config.residual_channels, config.residual_blocks, axes=axes),
    ]
    doublings = halvings(factor)
    if doublings == 0:
        return [*layers, convolution(width, channels, kernel_size=3, padding=1)]
    for i in range(doublings - 1):
        outgoing = max(1, width // 2) if i == doublings - 2 else width
        layers += [transposed(width, outgoing, kernel_size=4, stride=2, padding=1), nn.ReLU()]
        width = outgoing
    return [*layers, transposed(width, channels, kernel_size=4, stride=2, padding=1)]
