"""What encoder and decoder of DALL-E's discrete VAE share: their config, and the bottleneck blocks of their groups."""

from collections.abc import Iterator
from typing import Any, Self, final

from attrs import evolve, field, frozen
from attrs.validators import ge
from torch import Tensor, nn
from torch.nn import functional as F

from dvgen.blocks.strided import halvings, power_of_two


def _multiple_of_four(instance: object, attribute: Any, value: int) -> None:
    if value < 4 or value % 4:
        raise ValueError(f"'{attribute.name}' must be a multiple of 4 (a bottleneck has a quarter of the channels): {value}")


@frozen(kw_only=True)
class GroupConvolutions:
    """channels: width at full size; every halving doubles it. blocks: residual blocks a group. downsample: 1, 2, 4, 8, ...

    There is a group for each resolution: four with the default downsample, as in the paper.
    """

    channels: int = field(default=256, validator=_multiple_of_four)
    blocks: int = field(default=2, validator=ge(1))
    downsample: int = field(default=8, validator=power_of_two)

    @property
    def widths(self) -> list[int]:
        """The channels of each group, from full size down."""
        return [self.channels * 2**i for i in range(halvings(self.downsample) + 1)]

    def scaled(self, width: float) -> Self:
        """`channels` multiplied, to the nearest multiple of 4."""
        return evolve(self, channels=4 * max(1, round(self.channels * width / 4)))


TINY = GroupConvolutions(channels=8, blocks=1, downsample=2)


def convolution(incoming: int, outgoing: int, size: int) -> nn.Conv2d:
    """A convolution that keeps the size of its input; weights N(0, 1 / fan in), biases zero (code release, utils.py)."""
    layer = nn.Conv2d(incoming, outgoing, kernel_size=size, padding=size // 2)
    nn.init.normal_(layer.weight, std=(incoming * size**2) ** -0.5)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


@final
class Bottleneck(nn.Module):
    """x + gain * (four times ReLU and convolution, at a quarter of the outgoing channels in between); (b, c, h, w).

    sizes: of the four kernels. gain: 1 / (residual blocks of the network)^2, so that a deep network begins near the identity.
    Where the channels change, x passes through a 1x1 convolution. Ramesh et al. (2021), appendix A.1 and code release.
    """

    def __init__(self, incoming: int, outgoing: int, sizes: tuple[int, ...], gain: float) -> None:
        super().__init__()
        inner = [outgoing // 4] * (len(sizes) - 1)
        ends = zip([incoming, *inner], [*inner, outgoing], sizes, strict=True)
        self.convolutions = nn.ModuleList(convolution(a, b, size) for a, b, size in ends)
        self.skip = convolution(incoming, outgoing, 1) if incoming != outgoing else nn.Identity()
        self.gain = gain

    def forward(self, features: Tensor) -> Tensor:
        """features (b, incoming, h, w) to (b, outgoing, h, w)."""
        branch = features
        for layer in self.convolutions:
            branch = layer(F.relu(branch))
        return self.skip(features) + self.gain * branch


def groups(incoming: int, widths: list[int], blocks: int, sizes: tuple[int, ...]) -> Iterator[nn.Sequential]:
    """One group of residual blocks a width, the first from `incoming` channels."""
    gain = 1 / (len(widths) * blocks) ** 2
    for width in widths:
        ends = [incoming] + [width] * (blocks - 1)
        yield nn.Sequential(*(Bottleneck(end, width, sizes, gain) for end in ends))
        incoming = width
