"""What VQGAN's encoder and decoder share: their config, and the residual blocks of one resolution."""

from collections.abc import Iterator
from typing import Any, Self

from attrs import evolve, field, frozen
from attrs.validators import deep_iterable, ge, lt, min_len
from torch import nn

from dvgen_vqgan.attention import Attention
from dvgen_vqgan.resnet import ResNetBlock


@frozen(kw_only=True)
class Pyramid:
    """channels: width at full size. multipliers: of it, one a resolution, each half of the one before.

    blocks: residual blocks a resolution; the decoder has one more. attention: downsampling factors at which attention
    follows every block; released configs count sides instead, and 16 of an image of 256 is the factor 16. z_channels: width
    on either side of the 1x1 convolutions around the quantizer. dropout: in the residual blocks.
    """

    channels: int = field(default=128, validator=ge(1))
    multipliers: tuple[int, ...] = field(default=(1, 1, 2, 2, 4), validator=[min_len(1), deep_iterable(ge(1))])
    blocks: int = field(default=2, validator=ge(1))
    attention: tuple[int, ...] = field(default=(16,))
    z_channels: int = field(default=256, validator=ge(1))
    dropout: float = field(default=0.0, validator=[ge(0), lt(1)])

    @attention.validator
    def _at_a_resolution(self, attribute: Any, value: tuple[int, ...]) -> None:
        known = [2**i for i in range(len(self.multipliers))]
        strange = [factor for factor in value if factor not in known]
        if strange:
            raise ValueError(
                f"'attention' names factors that {len(known)} multipliers do not have: {', '.join(map(str, strange))}; "
                f"they have {', '.join(map(str, known))}"
            )

    @property
    def factor(self) -> int:
        """Pixels a code spans: 2 ** (multipliers - 1)."""
        return 2 ** (len(self.multipliers) - 1)

    @property
    def widths(self) -> list[int]:
        """Channels of every resolution, from full size down."""
        return [self.channels * multiplier for multiplier in self.multipliers]

    def attends(self, level: int) -> bool:
        """Whether attention stands at resolution `level`, 0 being full size."""
        return 2**level in self.attention

    def scaled(self, width: float) -> Self:
        """`channels` multiplied, to the nearest multiple of 4, so that its groups can be normalised as at full width."""
        return evolve(self, channels=max(1, round(self.channels * width / 4)) * 4)


TINY = Pyramid(channels=8, multipliers=(1, 2), blocks=1, attention=(2,), z_channels=8)


def blocks_of_level(incoming: int, outgoing: int, count: int, *, attends: bool, dropout: float) -> Iterator[nn.Module]:
    """Residual blocks from `incoming` to `outgoing` channels, each with attention behind it where that is wanted."""
    for i in range(count):
        yield ResNetBlock(outgoing if i else incoming, outgoing, dropout)
        if attends:
            yield Attention(outgoing)


def middle(width: int, dropout: float) -> list[nn.Module]:
    """The coarsest resolution: a residual block, attention, a residual block."""
    return [ResNetBlock(width, width, dropout), Attention(width), ResNetBlock(width, width, dropout)]
