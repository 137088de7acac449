"""The layers of VQGAN's encoder and decoder that are convolutions: residual blocks, halving, doubling. And their norm."""

from typing import final

from torch import Tensor, nn
from torch.nn import functional as F

GROUPS, NARROWEST = 32, 4
"""Groups of the published networks, and the channels a group of their narrowest layers (of 128) has."""


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with the most groups, up to 32, that divide the channels and leave a group 4 of them or more.

    A group of one channel would lose that channel's mean, and with it how bright an image is. (Epsilon is VQGAN's.)
    """
    most = min(GROUPS, max(1, channels // NARROWEST))
    return nn.GroupNorm(max(n for n in range(1, most + 1) if channels % n == 0), channels, eps=1e-6)


def swish_convolution(incoming: int, outgoing: int, dropout: float = 0.0) -> nn.Sequential:
    """Norm, swish, dropout, 3x3 convolution: (b, incoming, h, w) to (b, outgoing, h, w)."""
    convolution = nn.Conv2d(incoming, outgoing, kernel_size=3, padding=1)
    return nn.Sequential(group_norm(incoming), nn.SiLU(), nn.Dropout(dropout), convolution)


@final
class ResNetBlock(nn.Module):
    """x + f(x), f twice norm, swish and 3x3 convolution; a 1x1 convolution of x where the widths differ.

    (b, incoming, h, w) to (b, outgoing, h, w). Dropout stands before the second convolution, as in Ho et al. (2020).
    """

    def __init__(self, incoming: int, outgoing: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = swish_convolution(incoming, outgoing)
        self.second = swish_convolution(outgoing, outgoing, dropout)
        self.shortcut = nn.Identity() if incoming == outgoing else nn.Conv2d(incoming, outgoing, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """features (b, incoming, h, w)."""
        return self.shortcut(features) + self.second(self.first(features))


@final
class Downsample(nn.Module):
    """A 3x3 convolution of stride 2, (b, channels, h, w) to (b, channels, h/2, w/2); h and w are even.

    One row of zeros below and one column on the right: with the usual padding all round, an even size would leave the last
    ones of no use.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, kernel_size=3, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        """features (b, channels, h, w)."""
        return self.convolution(F.pad(features, (0, 1, 0, 1)))


@final
class Upsample(nn.Module):
    """Every element four times, then a 3x3 convolution: (b, channels, h, w) to (b, channels, 2h, 2w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """features (b, channels, h, w)."""
        return self.convolution(F.interpolate(features, scale_factor=2.0, mode="nearest"))
