"""The quantizer whose codes all move together: a frozen table under one learned linear map."""

import math
from collections.abc import Callable
from typing import Any, final

import torch
from attrs import field, frozen
from attrs.validators import ge, in_
from torch import Tensor, nn
from torch.nn import functional as F

from dvgen.blocks.code_statistics import code_statistics
from dvgen.blocks.codebook import code_level, look_up
from dvgen.blocks.estimators import ESTIMATORS
from dvgen.blocks.nearest import nearest
from dvgen.blocks.rows import check_initial, to_rows
from dvgen.interfaces.codes import Codes, Level
from dvgen.interfaces.quantizer import Quantized, Quantizer, Traits

FLOOR = 0.01
"""The least standard deviation of the codes in any direction after `initialise`, relative to the spread of the features."""


RESOLUTION = 1e-5
"""The least of these standard deviations relative to the mean of the features: float32 could not tell closer codes apart."""

BASIS_DEVIATION = 4.0
"""The standard deviation of the entries of C. It is the learning rate of the codes: a step of Adam moves W by as much
whatever the loss, and the codes by that times C. On a small problem (1024 codes, learning rate 3e-4, 800 steps) the authors'
1 / sqrt(dim) had 17 % of the codes in use, 1 had 83 %, 4 had 95 %, 16 had 94 %: slow codes lose the growing features of a
young encoder."""


@final
class SimVQQuantizer(Quantizer):
    """SimVQ (Zhu et al., 2024, section 4): codes E = C W + b, C random and frozen, W and b learned; the nearest code of E.

    Losses ||sg[z] - e||^2 + commitment * ||z - sg[e]||^2, means over valid elements: the first reaches W and b only, so
    that every chosen code moves all codes; the second reaches z only. The weight stands on the commitment; the authors' code
    puts it on the other term unless told, and forgets W and b when it looks codes up.
    """

    basis: Tensor

    @frozen(kw_only=True)
    class Config:
        """num_codes and dim: size of the codebook. commitment: weight of the commitment loss (the authors' code: 0.25).

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
        self.register_buffer("basis", BASIS_DEVIATION * torch.randn(config.num_codes, config.dim))
        # codes of variance 1/dim until `initialise` has seen features
        self.weight = nn.Parameter(torch.eye(config.dim) / (BASIS_DEVIATION * math.sqrt(config.dim)))
        self.bias = nn.Parameter(torch.zeros(config.dim))

    @classmethod
    def tiny(cls) -> Config:
        """Four codes of width three."""
        return cls.Config(num_codes=4, dim=3)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The linear map without weight decay, which would shrink the codes and draw them to the origin."""
        return [{"params": [self.weight, self.bias], "weight_decay": 0.0}]

    @property
    def traits(self) -> Traits:
        """The nearest row of E; no table, because the rows of E cannot be set one by one."""
        return Traits(estimator=self.config.estimator, nearest=True, idempotent=True)

    def levels(self, grid: tuple[int, ...]) -> tuple[Level, ...]:
        """One level on the same grid."""
        return code_level(grid, self.config.num_codes)

    def codes(self) -> Tensor:
        """E = C W + b (num_codes, dim), always of the whole table: products of single rows might be rounded otherwise."""
        with torch.autocast(self.basis.device.type, enabled=False):
            return torch.addmm(self.bias, self.basis, self.weight)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize z (b, dim, *grid); losses "codebook" and "commitment". Raises ShapeError as the interface says."""
        rows = to_rows(z, self.dim, mask)
        table = self.codes()
        codes, certified = nearest(rows.values, table.detach())
        chosen = F.embedding(codes, table)
        fixed = chosen.detach()
        vectors = ESTIMATORS[self.config.estimator](rows.values, fixed.to(rows.values.dtype))
        losses = {
            "codebook": rows.mean((chosen - rows.values.detach()).square()),
            "commitment": self.config.commitment * rows.mean((rows.values - fixed).square()),
        }
        stats = code_statistics(rows, [codes], [self.config.num_codes], fixed, certified=certified)
        return Quantized(rows.features(vectors), (rows.codes(codes),), losses, stats, {})

    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        """The nearest codes."""
        rows = to_rows(z.detach(), self.dim, mask)
        return (rows.codes(nearest(rows.values, self.codes().detach()).codes),)

    def decode(self, codes: Codes) -> Tensor:
        """The rows of E."""
        return look_up(codes, self.codes())

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Set W and b so that the codes have the mean and the covariance of features z (n, dim).

        The features of a fresh encoder lie close together and far from the origin: of codes around the origin, a few on
        the outside would be nearest to all of them, and W, which sees the chosen codes alone, would learn from these few.
        Where the features do not vary (one row, equal rows), the codes stand FLOOR of their size apart.
        Raises ShapeError when z has no rows and NonFiniteError for a value that is not finite.
        """
        check_initial(z, self.dim)
        mean, covariance = _moments(z)
        own_mean, own_covariance = _moments(self.basis)
        size = mean.square().mean().sqrt()
        deviation = covariance.diagonal().mean().sqrt()
        spread = torch.where(deviation > 1e-6 * size, deviation, torch.where(size > 0, size, 1.0))
        least = torch.maximum(FLOOR * spread, RESOLUTION * size)
        colour = _spectral(covariance, lambda variances: variances.clamp(min=least**2).sqrt())
        # a table of fewer codes than dimensions does not vary in all of them; there is nothing to whiten in the others
        whiten = _spectral(own_covariance, lambda variances: variances.clamp(min=1e-3 * variances.max()).rsqrt())
        weight = whiten @ colour if self.config.num_codes > 1 else colour
        self.weight.copy_(weight)
        self.bias.copy_(mean - own_mean @ weight)


def _moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (d,) and the covariance (d, d) of rows (n, d), in float64."""
    mean = rows.double().mean(dim=0)
    centred = rows.double() - mean
    return mean, centred.T @ centred / rows.shape[0]


def _spectral(matrix: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """A function of the eigenvalues of a symmetric matrix (d, d)."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * function(values)) @ vectors.T
