"""Binary spherical quantization: the signs of a point on the sphere."""

import math
from typing import final

from torch import Tensor

from dvgen.blocks.rows import to_rows
from dvgen.blocks.unit import unit
from dvgen.interfaces.codes import Codes, Level
from dvgen.interfaces.quantizer import Quantized, Quantizer, Traits
from dvgen_binary.bits import BinaryConfig, Signs


@final
class BSQQuantizer(Quantizer):
    """BSQ (Zhao et al., 2024), section 4: u = z / |z|, vectors sign(u) / sqrt(bits), the gradient straight through to u.

    Features and vectors both lie on the unit sphere, so the quantization error is bounded. Losses: commitment, the mean of
    (u - sg[vector])^2, and the two entropies (`entropy.py`); tau = 1, which is also what the authors' code has,
    makes them mild, because u differs little from a code of size 1 / sqrt(bits). The zero feature takes code 0.
    """

    Config = BinaryConfig

    def __init__(self, config: BinaryConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = config.bits
        self.signs = Signs(config, size=1 / math.sqrt(config.bits))

    @classmethod
    def tiny(cls) -> BinaryConfig:
        """Eight codes of width three."""
        return BinaryConfig(bits=3)

    @property
    def traits(self) -> Traits:
        """The nearest corner of a cube, whether of z or of u. Factors are channels of their own."""
        composition = "product" if self.config.factors > 1 else None
        return Traits(estimator="smooth", nearest=True, idempotent=True, composition=composition)

    def levels(self, grid: tuple[int, ...]) -> tuple[Level, ...]:
        """One level a factor, on the same grid."""
        return self.signs.digits.levels(grid)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize z (b, bits, *grid); losses "commitment", "entropy_sample", "entropy_batch".

        The stats compare vectors with u. Raises ShapeError as the interface says.
        """
        rows = to_rows(z, self.dim, mask)
        on_sphere, _ = unit(rows.values)
        return self.signs.quantized(rows, on_sphere)

    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        """The codes of the signs."""
        return self.signs.encode(to_rows(z.detach(), self.dim, mask))

    def decode(self, codes: Codes) -> Tensor:
        """Vectors of -1 / sqrt(bits) and 1 / sqrt(bits)."""
        return self.signs.decode(codes)
