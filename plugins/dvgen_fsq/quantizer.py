"""Finite scalar quantization: every channel is bounded and rounded."""

from typing import Any, final

import torch
from attrs import field, frozen
from attrs.validators import deep_iterable, ge, le, min_len
from einops import rearrange
from torch import Tensor

from dvgen.blocks.code_statistics import code_statistics
from dvgen.blocks.digits import Digits, channel_groups
from dvgen.blocks.estimators import straight_through
from dvgen.blocks.rows import to_rows
from dvgen.interfaces.codes import Codes, Level
from dvgen.interfaces.quantizer import Quantized, Quantizer, Traits


@final
class FSQQuantizer(Quantizer):
    """FSQ (Mentzer et al., 2023), section 3: round(f(z)) / floor(L/2), f squeezing a channel into the range of its L levels.

    f(z) = h tanh(z + atanh(o/h)) - o, h = (L-1)/2, and o = 1/2 for even L, else 0: f(0) = 0, and the integers from -floor(L/2)
    to ceil(L/2) - 1 are what rounding gives. The authors' notebook has tan where the inverse of tanh belongs. With L = 2
    no shift makes f(0) zero; there is none then, and the digit is the sign of z. There is nothing to learn and no loss.

    A code is the mixed-radix number of a level's channels, the lowest digit 0, the first channel counting 1.
    """

    half_levels: Tensor

    @frozen(kw_only=True)
    class Config:
        """levels_per_channel: L of each channel (paper, table 1: 8, 5, 5, 5 for about 2^10 codes), 2 to 2^20.

        factors: levels of codes. The channels are split into so many groups of neighbours, as even as possible and the larger
        first, and each group has its own codes: a prior over a product of 2^18 needs two levels of 2^9, not 2^18 logits.
        """

        levels_per_channel: tuple[int, ...] = field(
            default=(8, 5, 5, 5), validator=[min_len(1), deep_iterable([ge(2), le(2**20)])]
        )
        factors: int = field(default=1, validator=ge(1))

        @factors.validator
        def _groups(self, attribute: Any, value: int) -> None:
            channel_groups(self.levels_per_channel, value)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.dim = len(config.levels_per_channel)
        self.digits = Digits(config.levels_per_channel, config.factors)
        self.register_buffer("half_levels", (self.digits.sizes // 2).float(), persistent=False)

    @classmethod
    def tiny(cls) -> Config:
        """Eight codes of width two: the even case, and the special one."""
        return cls.Config(levels_per_channel=(4, 2))

    @property
    def traits(self) -> Traits:
        """Rounding what tanh has bent: not the nearest vector; idempotent only where tanh(1) is rounded to the last level.

        Factors are channels of their own.
        """
        composition = "product" if self.config.factors > 1 else None
        return Traits(estimator="smooth", idempotent=max(self.config.levels_per_channel) <= 3, composition=composition)

    def levels(self, grid: tuple[int, ...]) -> tuple[Level, ...]:
        """One level a factor, on the same grid."""
        return self.digits.levels(grid)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize z (b, dim, *grid); no losses. The gradient is that of f(z) / floor(L/2).

        The stat quantization_error is the mean squared distance between vector and f(z) / floor(L/2): what rounding costs.
        Raises ShapeError as the interface says.
        """
        rows = to_rows(z, self.dim, mask)
        bounded = self._bounded(rows.values)
        digits = self._digits(bounded)
        codes = self.digits.codes(digits)
        target = (bounded / self.half_levels).to(rows.values.dtype)
        fixed = self._vectors(digits).to(rows.values.dtype)
        stats = code_statistics(rows, codes, self.digits.num_codes, fixed, target=target)
        vectors = rows.features(straight_through(target, fixed))
        return Quantized(vectors, tuple(rows.codes(code) for code in codes), {}, stats, {})

    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        """The codes of the rounded channels."""
        rows = to_rows(z.detach(), self.dim, mask)
        return tuple(rows.codes(code) for code in self.digits.codes(self._digits(self._bounded(rows.values))))

    def decode(self, codes: Codes) -> Tensor:
        """Digits as numbers from -1 to 1; zero in the channels of levels that are masked or missing."""
        digits, known = self.digits.digits(codes)
        return rearrange(torch.where(known, self._vectors(digits), 0), "b ... d -> b d ...")

    def _bounded(self, z: Tensor) -> Tensor:
        """f of rows z (n, d): float64, because float32 next to 1 is too coarse to tell a million levels apart."""
        sizes = self.digits.sizes
        half, offset = (sizes - 1).double() / 2, (sizes % 2 == 0).double() / 2
        shift = torch.where(sizes > 2, offset / half, 0).atanh()
        return half * (z.double() + shift).tanh() - offset

    def _digits(self, bounded: Tensor) -> Tensor:
        """Digits (n, d), the lowest being 0."""
        sizes = self.digits.sizes
        # tanh reaches its limits exactly, so that all levels are used; the clamp is for devices where it oversteps them
        return (bounded.detach().round().long() + sizes // 2).clamp(min=0).minimum(sizes - 1)

    def _vectors(self, digits: Tensor) -> Tensor:
        """Vectors (*, d) of digits (*, d)."""
        return (digits - self.digits.sizes // 2) / self.half_levels
