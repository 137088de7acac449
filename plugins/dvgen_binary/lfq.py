"""Lookup-free quantization: the sign of each channel."""

from typing import final

from torch import Tensor

from dvgen.blocks.rows import to_rows
from dvgen.interfaces.codes import Codes, Level
from dvgen.interfaces.quantizer import Quantized, Quantizer, Traits
from dvgen_binary.bits import BinaryConfig, Signs


@final
class LFQQuantizer(Quantizer):
    """LFQ of MAGVIT-v2 (Yu et al., 2023), section 3: vectors sign(z) in {-1, 1}^bits, the gradient straight through.

    Losses: commitment, the mean of (z - sg[sign z])^2, and the two entropies, exact for a feature and an upper bound for the
    mean distribution (`entropy.py`). A bit is 1 where its channel is negative: zero, between two codes, takes the lower.
    """

    Config = BinaryConfig

    def __init__(self, config: BinaryConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = config.bits
        self.signs = Signs(config, size=1.0)

    @classmethod
    def tiny(cls) -> BinaryConfig:
        """Four codes of width two."""
        return BinaryConfig(bits=2)

    @property
    def traits(self) -> Traits:
        """The nearest corner of a cube. Factors are channels of their own."""
        composition = "product" if self.config.factors > 1 else None
        return Traits(estimator="straight-through", nearest=True, idempotent=True, composition=composition)

    def levels(self, grid: tuple[int, ...]) -> tuple[Level, ...]:
        """One level a factor, on the same grid."""
        return self.signs.digits.levels(grid)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize z (b, bits, *grid); losses "commitment", "entropy_sample", "entropy_batch".

        Raises ShapeError as the interface says.
        """
        rows = to_rows(z, self.dim, mask)
        return self.signs.quantized(rows, rows.values)

    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        """The codes of the signs."""
        return self.signs.encode(to_rows(z.detach(), self.dim, mask))

    def decode(self, codes: Codes) -> Tensor:
        """Vectors of -1 and 1."""
        return self.signs.decode(codes)
