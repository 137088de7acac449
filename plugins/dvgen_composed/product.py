"""The product quantizer: groups of channels, each quantized on its own."""

from collections.abc import Callable, Sequence
from typing import final

import attrs
import torch
from attrs import field, frozen
from attrs.validators import ge
from torch import Tensor

from dvgen import Part, part
from dvgen.blocks.rows import check_initial, to_rows
from dvgen.interfaces.codes import Codes
from dvgen.interfaces.quantizer import Quantized, Quantizer, Traits
from dvgen_composed.stages import Staged, all_finite


@final
class ProductQuantizer(Staged):
    """wav2vec 2.0 (Baevski et al., 2020, section 2); the groups of HiFi-Codec (Yang et al., 2023), one level each.

    The channels fall into consecutive groups of equal width, each with a quantizer of its own, and the vectors are put
    side by side: num_codes^groups vectors at the cost of num_codes * groups. Losses, weighted by the inner config, add up.
    """

    @frozen(kw_only=True)
    class Config:
        """groups: how many times the inner quantizer is made; the width is groups times its own. inner: any quantizer."""

        groups: int = field(default=2, validator=ge(1))
        inner: Part = part("quantizer", use="ema", dim=32)  # 64 channels in all, as one quantizer has

    def __init__(self, config: Config, *, inner: Callable[[], Quantizer]) -> None:
        stages = [inner() for _ in range(config.groups)]
        super().__init__(stages, dim=config.groups * stages[0].dim, name="group")
        self.config = config
        self.inner_traits = stages[0].traits

    @classmethod
    def tiny(cls) -> Config:
        """Two groups of three codes of width two."""
        return cls.Config(groups=2, inner=Part(use="ema", fields={"num_codes": 3, "dim": 2}))

    @property
    def traits(self) -> Traits:
        """Those of the inner quantizer: what is nearest in every group is nearest. There is no one table of all codes."""
        inner = attrs.evolve(self.inner_traits, table=False)
        if self.config.groups == 1 or inner.composition == "residual":
            return inner
        return attrs.evolve(inner, composition="product")

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize z (b, dim, *grid); losses "<i>.<loss of group i>". Raises ShapeError as the interface says."""
        to_rows(z, self.dim, mask)  # every fault of all groups is told at once
        results = [stage(channels, mask) for stage, channels in zip(self.each(), self._parts(z), strict=True)]
        return self.gathered(torch.cat([result.vectors for result in results], dim=1), _stats(results, self.dim), results)

    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        """The codes of every group."""
        to_rows(z.detach(), self.dim, mask)
        codes: Codes = ()
        for stage, channels in zip(self.each(), self._parts(z), strict=True):
            codes += stage.encode(channels, mask)
        return codes

    def decode(self, codes: Codes) -> Tensor:
        """The vectors of every group side by side; zero in groups that a prefix does not reach."""
        vectors = [stage.decode(own) for stage, own in self.split(codes)]
        missing = self.config.groups - len(vectors)
        return torch.cat([*vectors, *[torch.zeros_like(vectors[0])] * missing], dim=1)

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Every group on its channels of z (n, dim)."""
        check_initial(z, self.dim)
        for stage, channels in zip(self.each(), self._parts(z), strict=True):
            stage.initialise(channels)

    def _parts(self, z: Tensor) -> tuple[Tensor, ...]:
        """The channels (b or n, d / groups, ...) of every group."""
        return z.split(self.dim // self.config.groups, dim=1)


def _stats(results: Sequence[Quantized], dim: int) -> dict[str, Tensor]:
    """The stats of the whole from those of groups of equal width: errors and variances average, squared norms add up."""

    def of(name: str) -> Tensor:
        return torch.stack([result.stats[name] for result in results])

    means = {name: of(name).mean() for name in ("quantization_error", "feature_variance")}
    norms = {name: of(name).square().sum().sqrt() for name in ("feature_norm", "vector_norm")}
    square = of("feature_norm").square().sum() / dim
    spread = {"feature_spread": means["feature_variance"] / torch.where(square > 0, square, 1)}
    return means | norms | spread | {"finite": all_finite(results)}
