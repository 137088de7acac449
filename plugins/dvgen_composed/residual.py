"""The residual quantizer: each level quantizes what the levels before leave over."""

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from typing import final

import attrs
import torch
from attrs import field, frozen
from attrs.validators import ge
from einops import pack, rearrange
from torch import Tensor

from dvgen import Part, part
from dvgen.blocks.code_statistics import code_statistics
from dvgen.blocks.estimators import ESTIMATORS
from dvgen.blocks.rows import Rows, check_initial, to_rows
from dvgen.errors import ConfigError
from dvgen.interfaces.codes import Codes
from dvgen.interfaces.quantizer import Quantized, Quantizer, Traits
from dvgen_composed.stages import Staged, all_finite, state_dtype


@final
class ResidualQuantizer(Staged):
    """SoundStream (Zeghidour et al., 2021, section III-C, algorithm 1); RQ-VAE (Lee et al., 2022, section 3.1).

    r_0 = z; level i quantizes r_i to q_i; r_{i+1} = r_i - sg[q_i]; the vector is ((q_0 + q_1) + q_2) + ...

    The inner estimator stands once, around the sum: were it inside every level, the gradient of z would be counted once a
    level (or not at all past the first, when the whole of r is detached). So the gradient of the vectors reaches z alone,
    and the losses of level i reach z through r_i, and the codebook of level i.
    """

    @frozen(kw_only=True)
    class Config:
        """levels: how many times the inner quantizer is made (the width is its own).

        inner: a quantizer of nearest codes that learns without a gradient of its vectors.
        """

        levels: int = field(default=4, validator=ge(1))
        inner: Part = part("quantizer", use="ema")

    def __init__(self, config: Config, *, inner: Callable[[], Quantizer]) -> None:
        stages = [inner() for _ in range(config.levels)]
        _check(stages[0], config.inner.use)
        super().__init__(stages, dim=stages[0].dim, name="residual")
        self.config = config
        self.inner_traits = stages[0].traits

    @classmethod
    def tiny(cls) -> Config:
        """Two levels of four codes of width three."""
        return cls.Config(levels=2, inner=Part(use="ema", fields={"num_codes": 4, "dim": 3}))

    @property
    def traits(self) -> Traits:
        """Not the nearest sum of codes, because each level chooses without regard to those after it; one level is its inner
        quantizer, but for an attribute `codebook`.
        """
        if self.config.levels == 1:
            return attrs.evolve(self.inner_traits, table=False)
        return Traits(estimator=self.inner_traits.estimator, composition="residual")

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize z (b, dim, *grid); losses "<i>.<loss of level i>". Raises ShapeError as the interface says."""
        rows = to_rows(z, self.dim, mask)
        left = self._map(rows)
        results: list[Quantized] = []
        for stage in self.each():
            results.append(stage(left, mask))
            left = left - results[-1].vectors.detach()
        # decode knows nothing of the features' dtype, so both add up in that of the codebooks, where every q_i is exact
        own = state_dtype(self)
        total = _rows_of(_sum([result.vectors.detach().to(own) for result in results]))
        vectors = ESTIMATORS[self.inner_traits.estimator](rows.values, total.to(left.dtype))
        stats = code_statistics(rows, [], [], total)
        stats["finite"] = stats["finite"] * all_finite(results)
        return self.gathered(rows.features(vectors), stats, results)

    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        """The codes of all levels, greedily."""
        left = self._map(to_rows(z.detach(), self.dim, mask))
        codes: Codes = ()
        for stage in self.each():
            own = stage.encode(left, mask)
            codes += own
            left = left - stage.decode(own)
        return codes

    def decode(self, codes: Codes) -> Tensor:
        """The sum of the vectors of all levels, or of the first few; a masked code adds nothing."""
        return _sum([stage.decode(own) for stage, own in self.split(codes)])

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Each level in turn on what the levels before it leave over of z (n, dim)."""
        check_initial(z, self.dim)
        left = self._map(to_rows(z.T.unsqueeze(0), self.dim))
        for stage in self.each():
            stage.initialise(_rows_of(left))
            left = left - stage.decode(stage.encode(left))

    def _map(self, rows: Rows) -> Tensor:
        """Features (b, d, *grid) so wide that what is left over, and inner vectors, are not rounded to half precision."""
        return rows._replace(dtype=torch.promote_types(rows.values.dtype, state_dtype(self))).features(rows.values)


def _sum(vectors: Sequence[Tensor]) -> Tensor:
    """From the first to the last: another order would be rounded otherwise."""
    return reduce(add, vectors)


def _rows_of(features: Tensor) -> Tensor:
    """Features (b, d, *grid) as rows (n, d)."""
    rows, _ = pack([rearrange(features, "b d ... -> b ... d")], "* d")
    return rows


def _check(inner: Quantizer, use: str) -> None:
    """Raise ConfigError for a quantizer that cannot quantize what is left over, or would not learn to."""
    traits = inner.traits
    if not inner.deterministic or traits.estimator == "softmax":
        reason = "its codebook would get no gradient, for it learns from that of its vectors, and here only their sum has one"
    elif traits.estimator not in ESTIMATORS:
        reason = (
            "its vectors stand for a function of the features (a direction, a bounded value, a projection), so there is no "
            "residual; a projection goes outside: use = 'projected' with inner.use = 'residual'"
        )
    elif not (traits.nearest or traits.composition == "residual"):
        reason = "its codes are not those nearest to the features, so what is left over need not get smaller"
    elif not any(tensor.is_floating_point() for tensor in inner.state_dict().values()):
        reason = "nothing in it learns, so its vectors have one size on every level and cannot follow what is left over"
    else:
        return
    raise ConfigError(f"residual: inner quantizer {use!r}: {reason}; choose one whose nearest codes are learned, as 'ema' does")
