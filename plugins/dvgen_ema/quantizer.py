"""The quantizer whose codebook follows its features by exponential moving averages."""

from typing import final

import torch
from attrs import field, frozen
from attrs.validators import ge, in_, le
from torch import Tensor
from torch.nn import functional as F

from dvgen.blocks.code_statistics import code_statistics
from dvgen.blocks.codebook import uniform_codebook
from dvgen.blocks.estimators import ESTIMATORS
from dvgen.blocks.kmeans import kmeans_codebook
from dvgen.blocks.nearest import nearest
from dvgen.blocks.rows import to_rows
from dvgen.interfaces.codes import Codes
from dvgen.interfaces.quantizer import Quantized, Traits
from dvgen_ema.averages import MovingAverages


@final
class EMAQuantizer(MovingAverages):
    """VQ-VAE (van den Oord et al., 2017), equation 3 without its second term, the codebook as in appendix A.1."""

    @frozen(kw_only=True)
    class Config:
        """num_codes, dim: size of the codebook. commitment: weight of the commitment loss (paper: 0.25).

        estimator: of the gradient of z, "straight-through" (paper) or "rotation". decay: of the averages (paper: 0.99); 0
        makes every update a step of Lloyd's algorithm, 1 freezes the codebook. revive_after: updates without use.
        """

        num_codes: int = field(default=512, validator=ge(1))
        dim: int = field(default=64, validator=ge(1))
        commitment: float = field(default=0.25, validator=ge(0))
        estimator: str = field(default="straight-through", validator=in_(list(ESTIMATORS)))
        decay: float = field(default=0.99, validator=[ge(0), le(1)])
        # at decay 0.99 a code's features have lost 40 % of their weight by then
        revive_after: int = field(default=50, validator=ge(1))

    def __init__(self, config: Config) -> None:
        codebook = uniform_codebook(config.num_codes, config.dim)
        super().__init__(codebook, decay=config.decay, revive_after=config.revive_after)
        self.config = config

    @classmethod
    def tiny(cls) -> Config:
        """Four codes of width three."""
        return cls.Config(num_codes=4, dim=3)

    @property
    def traits(self) -> Traits:
        """The nearest row of a codebook."""
        return Traits(estimator=self.config.estimator, nearest=True, idempotent=True, table=True)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize z (b, dim, *grid); loss "commitment". Raises ShapeError as the interface says."""
        rows = to_rows(z, self.dim, mask)
        codes, certified = nearest(rows.values, self.codebook)
        chosen = F.embedding(codes, self.codebook)
        vectors = ESTIMATORS[self.config.estimator](rows.values, chosen)
        squares = (rows.values - chosen).square()
        losses = {"commitment": self.config.commitment * rows.mean(squares)}
        stats = code_statistics(rows, [codes], [self.num_codes], chosen, certified=certified)
        pending = self._pending(rows, codes, rows.values, squares)
        return Quantized(rows.features(vectors), (rows.codes(codes),), losses, stats, pending)

    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        """The nearest codes."""
        rows = to_rows(z.detach(), self.dim, mask)
        return (rows.codes(nearest(rows.values, self.codebook).codes),)

    def _placed(self, points: Tensor, otherwise: Tensor) -> Tensor:
        """Codes may stand anywhere."""
        return points

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Set the codebook by k-means on z (n, dim), every code used, and forget all averages.

        The first update is a step of Lloyd's algorithm on one batch, and repairs a poor start only slowly: the error of
        k-means is reached from the first batch on, that of sampled features after tens.
        """
        self._start(kmeans_codebook(z, self.num_codes))
