"""The quantizer of VQ-VAE: the nearest code, its vector learned by gradient."""

from typing import Any, final

import torch
from attrs import field, frozen
from attrs.validators import ge, in_
from torch import Tensor, nn
from torch.nn import functional as F

from dvgen.blocks.code_statistics import code_statistics
from dvgen.blocks.codebook import code_level, look_up, uniform_codebook
from dvgen.blocks.estimators import ESTIMATORS
from dvgen.blocks.kmeans import kmeans_codebook
from dvgen.blocks.nearest import nearest
from dvgen.blocks.rows import to_rows
from dvgen.interfaces.codes import Codes, Level
from dvgen.interfaces.quantizer import Quantized, Quantizer, Traits


@final
class VQQuantizer(Quantizer):
    """VQ-VAE (van den Oord et al., 2017), equation 3, terms 2 and 3: ||sg[z] - e||^2 + commitment * ||z - sg[e]||^2.

    Both are means over valid elements. The weight stands on the commitment alone: the codebook loss reaches only the
    codebook, the commitment only the encoder, and the gradient of what follows reaches z as the estimator says.
    """

    @frozen(kw_only=True)
    class Config:
        """num_codes and dim: size of the codebook. commitment: weight of the commitment loss (paper: 0.25).

        estimator: "straight-through" (paper) or "rotation".
        """

        num_codes: int = field(default=512, validator=ge(1))
        dim: int = field(default=64, validator=ge(1))
        commitment: float = field(default=0.25, validator=ge(0))
        estimator: str = field(default="straight-through", validator=in_(list(ESTIMATORS)))

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

    @property
    def traits(self) -> Traits:
        """The nearest row of a codebook."""
        return Traits(estimator=self.config.estimator, nearest=True, idempotent=True, table=True)

    def levels(self, grid: tuple[int, ...]) -> tuple[Level, ...]:
        """One level on the same grid."""
        return code_level(grid, self.config.num_codes)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize z (b, dim, *grid); losses "codebook" and "commitment". Raises ShapeError as the interface says."""
        rows = to_rows(z, self.dim, mask)
        codes, certified = nearest(rows.values, self.codebook)
        chosen = F.embedding(codes, self.codebook)
        fixed = chosen.detach()
        vectors = ESTIMATORS[self.config.estimator](rows.values, fixed)
        losses = {
            "codebook": rows.mean((chosen - rows.values.detach()).square()),
            "commitment": self.config.commitment * rows.mean((rows.values - fixed).square()),
        }
        stats = code_statistics(rows, [codes], [self.config.num_codes], fixed, certified=certified)
        return Quantized(rows.features(vectors), (rows.codes(codes),), losses, stats, {})

    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        """The nearest codes."""
        rows = to_rows(z.detach(), self.dim, mask)
        return (rows.codes(nearest(rows.values, self.codebook).codes),)

    def decode(self, codes: Codes) -> Tensor:
        """The rows of the codebook."""
        return look_up(codes, self.codebook)

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Set the codebook by k-means on z (n, dim), every code used.

        A code far from all features is never chosen and so never learns. Means rather than features: the gradient alone
        takes hundreds of steps from one to the other.
        """
        self.codebook.copy_(kmeans_codebook(z, self.config.num_codes))
