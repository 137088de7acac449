"""A quantizer without a codebook: every channel is squashed and rounded, and its digits are the code."""

from typing import final

import torch
from attrs import field, frozen
from attrs.validators import ge
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from dvgen.blocks.code_statistics import code_statistics
from dvgen.blocks.codebook import code_level, look_up
from dvgen.blocks.estimators import straight_through
from dvgen.blocks.rows import to_rows
from dvgen.interfaces.codes import Codes, Level
from dvgen.interfaces.quantizer import Quantized, Quantizer, Traits


@final
class RoundQuantizer(Quantizer):
    """tanh(z), rounded to `steps` evenly spaced values from -1 to 1 in each channel; nothing is learned.

    Close to FSQ (Mentzer et al., 2023, arXiv 2309.15505), without its offset for an even number of values. Channel i is
    digit i of the code, the first one counting 1. The gradient passes the rounding straight through.
    """

    @frozen(kw_only=True)
    class Config:
        """steps: values a channel can take. dim: channels. There are steps ** dim codes."""

        steps: int = field(default=8, validator=ge(2))
        dim: int = field(default=3, validator=ge(1))

        def __attrs_post_init__(self) -> None:
            if self.steps**self.dim > 2**16:
                raise ValueError(f"steps ** dim is {self.steps**self.dim} codes; at most 65536 are possible")

    traits = Traits(estimator="smooth")
    places: Tensor
    vectors: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.steps, self.dim, self.num_codes = config.steps, config.dim, config.steps**config.dim
        self.register_buffer("places", config.steps ** torch.arange(config.dim))
        digits = rearrange(torch.arange(self.num_codes), "k -> k 1") // self.places % config.steps
        self.register_buffer("vectors", 2 * digits / (config.steps - 1) - 1)

    @classmethod
    def tiny(cls) -> Config:
        """Eight codes. With a few values less, tanh(1) would be rounded to 1 again, and rounding twice change nothing."""
        return cls.Config(steps=8, dim=1)

    def levels(self, grid: tuple[int, ...]) -> tuple[Level, ...]:
        return code_level(grid, self.num_codes)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        rows = to_rows(z, self.dim, mask)
        squashed = rows.values.tanh()
        codes = self._code(squashed)
        vectors = F.embedding(codes, self.vectors)
        stats = code_statistics(rows, [codes], [self.num_codes], vectors, target=squashed)
        return Quantized(rows.features(straight_through(squashed, vectors)), (rows.codes(codes),), {}, stats, {})

    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        rows = to_rows(z.detach(), self.dim, mask)
        return (rows.codes(self._code(rows.values.tanh())),)

    def decode(self, codes: Codes) -> Tensor:
        return look_up(codes, self.vectors)

    def _code(self, squashed: Tensor) -> Tensor:
        digits = ((squashed + 1) / 2 * (self.steps - 1)).round().long()
        return (digits * self.places).sum(dim=-1)
