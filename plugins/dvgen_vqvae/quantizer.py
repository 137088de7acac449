"""The quantizer of VQ-VAE: the nearest code, its vector learned by gradient."""

from typing import Any, final

import torch
from attrs import field, frozen
from attrs.validators import ge
from torch import Tensor, nn
from torch.nn import functional as F

from dvgen.blocks.codebook import code_level, code_statistics, look_up, mean_square, sampled_codebook, uniform_codebook
from dvgen.blocks.nearest import nearest
from dvgen.blocks.rows import to_rows
from dvgen.blocks.straight_through import straight_through
from dvgen.interfaces.codes import Codes, Level
from dvgen.interfaces.quantizer import Quantized, Quantizer


@final
class VQQuantizer(Quantizer):
    """VQ-VAE (van den Oord et al., 2017), equation 3, terms 2 and 3: ||sg[z] - e||^2 + commitment * ||z - sg[e]||^2.

    Both are means over valid elements. The weight stands on the commitment alone: the codebook loss reaches only the
    codebook, the commitment only the encoder, and the gradient of what follows goes straight through to z.
    """

    @frozen(kw_only=True)
    class Config:
        """num_codes and dim: size of the codebook. commitment: weight of the commitment loss (paper: 0.25)."""

        num_codes: int = field(default=512, validator=ge(1))
        dim: int = field(default=64, validator=ge(1))
        commitment: float = field(default=0.25, validator=ge(0))

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.dim = config.dim
        self.codebook = nn.Parameter(uniform_codebook(config.num_codes, config.dim))

    @classmethod
    def tiny(cls) -> Config:
        """Four codes of width three."""
        return cls.Config(num_codes=4, dim=3)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The codebook without weight decay, which would pull codes away from the features they stand for."""
        return [{"params": [self.codebook], "weight_decay": 0.0}]

    def levels(self, grid: tuple[int, ...]) -> tuple[Level, ...]:
        """One level on the same grid."""
        return code_level(grid, self.config.num_codes)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize z (b, dim, *grid); losses "codebook" and "commitment". Raises ShapeError as the interface says."""
        rows = to_rows(z, self.dim, mask)
        codes = nearest(rows.values, self.codebook)
        chosen = F.embedding(codes, self.codebook)
        vectors = straight_through(rows.values, chosen.detach())
        commitment = mean_square(rows.values - chosen.detach())
        losses = {
            "codebook": mean_square(rows.values.detach() - chosen),
            "commitment": self.config.commitment * commitment,
        }
        stats = code_statistics(codes, self.config.num_codes, commitment)
        return Quantized(rows.features(vectors), (rows.codes(codes),), losses, stats, {})

    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        """The nearest codes."""
        rows = to_rows(z.detach(), self.dim, mask)
        return (rows.codes(nearest(rows.values, self.codebook)),)

    def decode(self, codes: Codes) -> Tensor:
        """The rows of the codebook."""
        return look_up(codes, self.codebook)

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Set the codebook to different rows of z (n, dim).

        A code far from all features is never chosen and so never learns; one that starts on a feature is chosen at once.
        """
        self.codebook.copy_(sampled_codebook(z, self.config.num_codes))
