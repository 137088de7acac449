"""The projected quantizer: linear maps before and after a quantizer of another width.

Shapes: b batch, d outer width, k inner width, *grid positions, n features.
"""

from collections.abc import Callable
from functools import reduce
from operator import and_
from typing import Any, final

import torch
from attrs import field, frozen
from attrs.validators import ge
from einops import pack, rearrange, unpack
from torch import Tensor, nn
from torch.nn import functional as F

from dvgen import Part, part
from dvgen.blocks.rows import Rows, check_initial, to_rows
from dvgen.errors import ConfigError
from dvgen.interfaces.codes import MASKED, Codes, Level
from dvgen.interfaces.quantizer import Quantized, Quantizer, Traits

FLOOR = 0.01
"""The least standard deviation that `initialise` divides a direction by, relative to the largest: less may be noise alone."""

APART = 1e-4
"""The least length of a column of B after `initialise`, relative to the size of the features: with less, float32 would round
the vectors of different codes to one."""


@final
class ProjectedQuantizer(Quantizer):
    """Factorised codes: ViT-VQGAN (Yu et al., 2021, section 3.2); DAC (Kumar et al., 2023, section 3.2).

    y = A (z - o) + a; the inner quantizer takes y to q; the vector is B q + b. In few dimensions features lie close enough
    together for all codes to be in use. A, a, B, b are learned; the losses are the inner ones and act on y.

    The origin o, zero in the papers, is the mean of the features that `initialise` saw: with features far from zero, A z + a
    would be a difference of large numbers.
    """

    origin: Tensor

    @frozen(kw_only=True)
    class Config:
        """dim: width of the features, not less than that of the inner quantizer. inner: any quantizer."""

        dim: int = field(default=64, validator=ge(1))
        inner: Part = part("quantizer", use="ema", dim=8)  # the width of DAC

    def __init__(self, config: Config, *, inner: Callable[[], Quantizer]) -> None:
        super().__init__()
        self.config = config
        self.dim = config.dim
        self.inner = inner()
        if config.dim < self.inner.dim:
            raise ConfigError(
                f"projected: dim {config.dim} is less than the width {self.inner.dim} of the inner quantizer "
                f"{config.inner.use!r}, and a projection to more dimensions adds nothing; raise dim or narrow the inner one"
            )
        self.deterministic = self.inner.deterministic
        self.input = nn.Linear(config.dim, self.inner.dim)
        self.output = nn.Linear(self.inner.dim, config.dim)
        self.register_buffer("origin", torch.zeros(config.dim))

    @classmethod
    def tiny(cls) -> Config:
        """Four codes of width two for features of width four."""
        return cls.Config(dim=4, inner=Part(use="ema", fields={"num_codes": 4, "dim": 2}))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The linear maps, and the groups of the inner quantizer."""
        maps = [*self.input.parameters(), *self.output.parameters()]
        return [{"params": maps}, *self.inner.parameter_groups()]

    @property
    def traits(self) -> Traits:
        """The gradient goes through both maps. Learned maps promise neither the nearest vector nor the same codes again."""
        return Traits(estimator="softmax" if self.inner.traits.estimator == "softmax" else "smooth")

    def levels(self, grid: tuple[int, ...]) -> tuple[Level, ...]:
        """Those of the inner quantizer."""
        return self.inner.levels(grid)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize z (b, dim, *grid); losses and pending are the inner ones. Raises ShapeError as the interface says.

        stats are the inner ones, which compare q with y: nothing draws the vectors to z.
        """
        rows = to_rows(z, self.dim, mask)
        result: Quantized = self.inner(self._projected(rows), mask)
        vectors = self._outward(pack([rearrange(result.vectors, "b k ... -> b ... k")], "* k")[0])
        finite = {"finite": rows.finite * result.stats["finite"]}
        return result._replace(vectors=rows.features(vectors), stats=result.stats | finite)

    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        """The inner codes of the projected features."""
        return self.inner.encode(self._projected(to_rows(z.detach(), self.dim, mask)), mask)

    def decode(self, codes: Codes) -> Tensor:
        """B q + b of the inner vectors, of all levels or the first few; zero where every code is masked."""
        rows, grid = pack([rearrange(self.inner.decode(codes), "b k ... -> b ... k")], "* k")
        (vectors,) = unpack(self._outward(rows), grid, "* d")
        masked = reduce(and_, [code == MASKED for code in codes])
        return rearrange(vectors.masked_fill(masked.unsqueeze(-1), 0), "b ... d -> b d ...")

    def update(self, pending: dict[str, Tensor]) -> None:
        """The inner update."""
        self.inner.update(pending)

    def schedule(self, step: int) -> None:
        """The inner schedule."""
        self.inner.schedule(step)

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Start from the principal directions of features z (n, dim): y keeps the most variance, and B y + b gives it back.

        Each channel of y has mean 0 and variance 1. Quantizers without a codebook, whose vectors have a fixed size, need that;
        one with a codebook can then use all channels, and the weight of its commitment means the same at every scale
        of features. The inner quantizer is initialised on y.
        """
        check_initial(z, self.dim)
        wide = z.double()
        mean = wide.mean(dim=0)
        directions, deviations = _principal(wide - mean, mean, self.inner.dim)
        self.origin.copy_(mean)
        self.input.weight.copy_((directions / deviations).T)
        self.output.weight.copy_(directions * deviations.clamp(min=APART * mean.square().mean().sqrt()))
        self.input.bias.zero_()
        self.output.bias.copy_(mean)
        self.inner.initialise(self._inward(z.to(torch.promote_types(z.dtype, self.origin.dtype))))

    def _projected(self, rows: Rows) -> Tensor:
        """The features y (b, k, *grid) that the inner quantizer sees; never in half precision."""
        wide = rows._replace(dtype=torch.promote_types(rows.values.dtype, self.input.weight.dtype))
        return wide.features(self._inward(rows.values.to(wide.dtype)))

    def _inward(self, values: Tensor) -> Tensor:
        """A (z - o) + a (n, k) of features z (n, d), in their dtype.

        A matrix product is rounded otherwise for another number of rows. Taken in float64 and rounded once to float32 it is
        not, so that the code of a position does not depend on what else is in its batch.
        """
        return _linear(self.input, values.double() - self.origin).to(values.dtype)

    def _outward(self, values: Tensor) -> Tensor:
        """B q + b (n, d) of inner vectors q (n, k), in the dtype of B whatever theirs: forward and decode give the same."""
        return _linear(self.output, values.double()).to(self.output.weight.dtype)


def _linear(layer: nn.Linear, values: Tensor) -> Tensor:
    """A linear layer in float64, whatever autocast says."""
    with torch.autocast(values.device.type, enabled=False):
        return F.linear(values, layer.weight.double(), layer.bias.double())


def _principal(centred: Tensor, mean: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Directions of the most variance (d, k) of centred rows (n, d), the largest first, and the deviations along them (k,).

    Where the rows do not vary, the deviation is FLOOR of their size; where that is zero, of one.
    """
    variances, directions = torch.linalg.eigh(centred.T @ centred / centred.shape[0])
    largest, size = variances[-1].clamp(min=0).sqrt(), mean.square().mean().sqrt()
    spread = torch.where(largest > 1e-6 * size, largest, torch.where(size > 0, size, 1.0))
    deviations = variances.clamp(min=(FLOOR * spread) ** 2).sqrt()
    return directions[:, -count:].flip(1), deviations[-count:].flip(0)
