"""The quantizer that compares directions: features and codes of length one, the codebook by moving averages."""

from typing import final

import torch
from attrs import field, frozen
from attrs.validators import ge, le
from torch import Tensor
from torch.nn import functional as F

from dvgen.blocks.code_statistics import code_statistics
from dvgen.blocks.codebook import sampled_codebook, uniform_codebook
from dvgen.blocks.estimators import straight_through
from dvgen.blocks.nearest import Nearest, nearest
from dvgen.blocks.rows import check_finite, to_rows
from dvgen.blocks.unit import unit
from dvgen.interfaces.codes import Codes
from dvgen.interfaces.quantizer import Quantized, Traits
from dvgen_ema.averages import MovingAverages


@final
class CosineQuantizer(MovingAverages):
    """ViT-VQGAN (Yu et al., 2021), section 3.2: the code nearest to u = z/|z| among codes of length one, in few dimensions.

    That is the code of the largest cosine. The vectors are the codes, of length one; the commitment is ||u - sg[e]||^2, and
    the gradient passes straight through to u, and from there to z. The paper learns the codebook by gradient; here it follows
    the features by spherical k-means with moving averages: m sums u, and a code is m/|m|, so that its length is one after
    every update, however the features cancel. A feature of zero has no direction: it takes
    the first code, and turns it nowhere.
    """

    @frozen(kw_only=True)
    class Config:
        """num_codes, dim: size of the codebook. commitment: weight of the commitment loss (VQ-VAE: 0.25).

        decay: of the averages (VQ-VAE: 0.99); 0 makes every update a step of spherical k-means, 1 freezes the codebook.
        revive_after: updates without use.
        """

        num_codes: int = field(default=512, validator=ge(1))
        # few dimensions keep all codes in use (ViT-VQGAN: 32, DAC: 8); in one there are but two directions
        dim: int = field(default=8, validator=ge(2))
        commitment: float = field(default=0.25, validator=ge(0))
        decay: float = field(default=0.99, validator=[ge(0), le(1)])
        # at decay 0.99 a code's features have lost 40 % of their weight by then
        revive_after: int = field(default=50, validator=ge(1))

    def __init__(self, config: Config) -> None:
        codebook, _ = unit(uniform_codebook(config.num_codes, config.dim))
        super().__init__(codebook, decay=config.decay, revive_after=config.revive_after)
        self.config = config

    @classmethod
    def tiny(cls) -> Config:
        """Four codes of width three."""
        return cls.Config(num_codes=4, dim=3)

    @property
    def traits(self) -> Traits:
        """The nearest row of a codebook to the direction of a feature; not, to rounding of the lengths, to the feature."""
        return Traits(estimator="smooth", idempotent=True, table=True)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize z (b, dim, *grid); loss "commitment". Raises ShapeError as the interface says.

        stats are those of the directions, which the vectors stand for.
        """
        rows = to_rows(z, self.dim, mask)
        directions, _ = unit(rows.values)
        codes, certified = self._search(directions)
        chosen = F.embedding(codes, self.codebook)
        squares = (directions - chosen).square()
        losses = {"commitment": self.config.commitment * rows.mean(squares)}
        stats = code_statistics(rows, [codes], [self.num_codes], chosen, target=directions, certified=certified)
        pending = self._pending(rows, codes, directions, squares)
        vectors = rows.features(straight_through(directions, chosen))
        return Quantized(vectors, (rows.codes(codes),), losses, stats, pending)

    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        """The codes of the largest cosine."""
        rows = to_rows(z.detach(), self.dim, mask)
        return (rows.codes(self._search(unit(rows.values)[0]).codes),)

    @torch.no_grad()
    def _search(self, directions: Tensor) -> Nearest:
        # zero, a masked row among others, is equally far from all codes, which no search could tell in float32
        some = directions.any(dim=1, keepdim=True)
        return nearest(torch.where(some, directions, self.codebook[:1]), self.codebook)

    def _placed(self, points: Tensor, otherwise: Tensor) -> Tensor:
        """Codes stand on the sphere; a point at its centre belongs nowhere on it."""
        directions, lengths = unit(points)
        return torch.where(lengths > 0, directions, otherwise)

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Set the codebook to different directions of rows of z (n, dim) and forget all averages.

        Raises NonFiniteError for a value that is not finite.
        """
        check_finite(z, "initialise")
        wide = z.to(torch.promote_types(z.dtype, torch.float32))
        # zero has no direction: any will do
        directions = self._placed(wide, unit(torch.randn(wide.shape).to(wide))[0])
        self._start(unit(sampled_codebook(directions, self.num_codes))[0])
