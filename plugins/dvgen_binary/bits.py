"""What quantizers of one bit a channel share: their config, their codes, their losses.

Shapes: b batch, d channels, *grid positions, n rows.
"""

from typing import Any

import torch
from attrs import field, frozen
from attrs.validators import ge, gt, le
from einops import rearrange
from torch import Tensor, nn

from dvgen.blocks.code_statistics import code_statistics
from dvgen.blocks.digits import Digits, channel_groups
from dvgen.blocks.estimators import straight_through
from dvgen.blocks.rows import Rows
from dvgen.interfaces.codes import Codes
from dvgen.interfaces.quantizer import Quantized
from dvgen_binary.entropy import mean_entropies


@frozen(kw_only=True)
class BinaryConfig:
    """bits: channels, one bit each. commitment: weight of the mean squared distance to the vector (VQ-VAE: 0.25).

    factors: levels of codes. The bits are split into so many groups of neighbours, as even as possible and the larger first,
    each at most 62 bits; a prior over 2^18 codes needs two levels of 2^9, not 2^18 logits.

    entropy: weight of the entropy of a feature's code minus `diversity` times the entropy of the mean distribution of codes.
    inverse_temperature: tau of these distributions, softmax(-tau |feature - code|^2). group: bits of which the second entropy
    is exact together; divides bits. Groups of one bit see whether each bit is used, not whether two of them say the same.
    """

    bits: int = field(default=10, validator=ge(1))
    factors: int = field(default=1, validator=ge(1))
    commitment: float = field(default=0.25, validator=ge(0))
    entropy: float = field(default=0.1, validator=ge(0))
    diversity: float = field(default=1.0, validator=ge(0))
    # at 100, as in much code, a bit is certain to the last digit of float32 at 1/20 of the way to the code, and no loss could
    # bring one that is always the same back into use
    inverse_temperature: float = field(default=1.0, validator=gt(0))
    group: int = field(default=1, validator=[ge(1), le(16)])

    @factors.validator
    def _levels(self, attribute: Any, value: int) -> None:
        channel_groups([2] * self.bits, value)

    @group.validator
    def _divides(self, attribute: Any, value: int) -> None:
        if self.bits % value:
            raise ValueError(f"group: {value} does not divide {self.bits} bits; use a divisor, such as 1")


class Signs(nn.Module):
    """Signs of d channels as codes, and as vectors with entries of one size.

    The bit of a negative channel is 1, that of all others, zero and minus zero too, is 0: the nearest corner of the cube, and
    of several nearest ones that with the lowest code. The first channel of a level counts 1, the next 2, 4, ...
    """

    one: Tensor

    def __init__(self, config: BinaryConfig, size: float) -> None:
        super().__init__()
        self.config = config
        self.size = size
        self.digits = Digits([2] * config.bits, config.factors)
        # has the dtype and device of the model
        self.register_buffer("one", torch.ones(()), persistent=False)

    def quantized(self, rows: Rows, target: Tensor) -> Quantized:
        """What `forward` returns when the vectors stand for `target` (n, d), which has the signs of `rows.values`.

        Beside the usual stats "entropy_sample" and "entropy_batch", the two entropies in nats, without weights.
        """
        negative = rows.values < 0
        codes = self.digits.codes(negative.long())
        fixed = self._vectors(negative).to(rows.values.dtype)
        sample, batch = self._entropies(rows, target)
        losses = {
            "commitment": self.config.commitment * rows.mean((target - fixed).square()),
            "entropy_sample": self.config.entropy * sample,
            "entropy_batch": -self.config.entropy * self.config.diversity * batch,
        }
        stats = code_statistics(rows, codes, self.digits.num_codes, fixed, target=target)
        stats |= {"entropy_sample": sample.detach(), "entropy_batch": batch.detach()}
        vectors = rows.features(straight_through(target, fixed))
        return Quantized(vectors, tuple(rows.codes(code) for code in codes), losses, stats, {})

    def encode(self, rows: Rows) -> Codes:
        """The codes of the signs of `rows.values`."""
        return tuple(rows.codes(code) for code in self.digits.codes((rows.values < 0).long()))

    def decode(self, codes: Codes) -> Tensor:
        """The vectors (b, d, *grid) of codes; zero in the channels of levels that are masked or missing."""
        digits, known = self.digits.digits(codes)
        return rearrange(torch.where(known, self._vectors(digits > 0), 0), "b ... d -> b d ...")

    def _vectors(self, negative: Tensor) -> Tensor:
        return torch.where(negative, -self.one, self.one) * self.size

    def _entropies(self, rows: Rows, target: Tensor) -> tuple[Tensor, Tensor]:
        """As in `mean_entropies`. The log odds of +s against -s, s = size, are tau ((u + s)^2 - (u - s)^2) = 4 tau s u."""
        log_odds = 4 * self.config.inverse_temperature * self.size * target
        return mean_entropies(rows, log_odds, self.config.group, self.training)
