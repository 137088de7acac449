"""The quantizer whose codebook follows its features by exponential moving averages."""

from typing import final

import torch
from attrs import field, frozen
from attrs.validators import ge, gt, lt
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from dvgen.blocks.codebook import code_level, code_statistics, look_up, mean_square, sampled_codebook, uniform_codebook
from dvgen.blocks.nearest import nearest
from dvgen.blocks.rows import to_rows
from dvgen.blocks.straight_through import straight_through
from dvgen.interfaces.codes import Codes, Level
from dvgen.interfaces.quantizer import Quantized, Quantizer
from dvgen_ema.revival import revive


@final
class EMAQuantizer(Quantizer):
    """VQ-VAE (van den Oord et al., 2017), appendix A.1: the averages N of counts and m of sums; e = m/N.

    Both averages start at zero and are divided by the weight of what they have seen, 1 - decay^t, and N is smoothed to
    (N + epsilon) / (sum N + num_codes epsilon) * sum N, both as in Sonnet's VectorQuantizerEMA. A code that no feature
    chose keeps its place: m/N would not move it, and smoothing would draw it to the origin. A code that no feature chose
    in `revive_after` updates in a row is placed anew beside a code that quantizes badly (`revival.py`).
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor
    weight: Tensor
    unused: Tensor

    @frozen(kw_only=True)
    class Config:
        """num_codes, dim: size of the codebook. commitment: weight of the commitment loss (paper: 0.25).

        decay: of the averages (paper: 0.99). epsilon: of the smoothing, in counts. revive_after: updates without use.
        """

        num_codes: int = field(default=512, validator=ge(1))
        dim: int = field(default=64, validator=ge(1))
        commitment: float = field(default=0.25, validator=ge(0))
        decay: float = field(default=0.99, validator=[ge(0), lt(1)])
        epsilon: float = field(default=1e-5, validator=gt(0))
        # at decay 0.99 a code's features have lost 40 % of their weight by then
        revive_after: int = field(default=50, validator=ge(1))

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.dim = config.dim
        self.register_buffer("codebook", uniform_codebook(config.num_codes, config.dim))
        self.register_buffer("counts", torch.zeros(config.num_codes))
        self.register_buffer("sums", torch.zeros(config.num_codes, config.dim))
        self.register_buffer("weight", torch.zeros(()))
        self.register_buffer("unused", torch.zeros(config.num_codes))

    @classmethod
    def tiny(cls) -> Config:
        """Four codes of width three."""
        return cls.Config(num_codes=4, dim=3)

    def levels(self, grid: tuple[int, ...]) -> tuple[Level, ...]:
        """One level on the same grid."""
        return code_level(grid, self.config.num_codes)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize z (b, dim, *grid); loss "commitment". Raises ShapeError as the interface says.

        pending: counts (k,), sums (k, dim) of the features that chose a code, and errors (k,), their squared distances.
        """
        rows = to_rows(z, self.dim, mask)
        codes = nearest(rows.values, self.codebook)
        chosen = F.embedding(codes, self.codebook)
        vectors = straight_through(rows.values, chosen)
        commitment = mean_square(rows.values - chosen)
        losses = {"commitment": self.config.commitment * commitment}
        stats = code_statistics(codes, self.config.num_codes, commitment)
        pending = self._pending(rows.values.detach(), codes, chosen)
        return Quantized(rows.features(vectors), (rows.codes(codes),), losses, stats, pending)

    @torch.no_grad()
    def _pending(self, values: Tensor, codes: Tensor, chosen: Tensor) -> dict[str, Tensor]:
        num_codes = self.config.num_codes
        errors = (values - chosen).square().sum(dim=1)
        return {
            "counts": torch.bincount(codes, minlength=num_codes).to(values.dtype),
            "sums": values.new_zeros(num_codes, self.dim).index_add_(0, codes, values),
            "errors": values.new_zeros(num_codes).index_add_(0, codes, errors),
        }

    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        """The nearest codes."""
        rows = to_rows(z.detach(), self.dim, mask)
        return (rows.codes(nearest(rows.values, self.codebook)),)

    def decode(self, codes: Codes) -> Tensor:
        """The rows of the codebook."""
        return look_up(codes, self.codebook)

    @torch.no_grad()
    def update(self, pending: dict[str, Tensor]) -> None:
        """Move the averages and the chosen codes; revive codes long unused. A batch without features moves nothing."""
        counts, sums = pending["counts"], pending["sums"]
        any_feature = counts.sum() > 0
        share = torch.where(any_feature, 1 - self.config.decay, 0.0)
        self.counts.lerp_(counts.to(self.counts), share)
        self.sums.lerp_(sums.to(self.sums), share)
        self.weight.lerp_(torch.ones_like(self.weight), share)
        chosen = counts > 0
        self.codebook.copy_(torch.where(rearrange(chosen, "k -> k 1"), self._means(), self.codebook))
        self.unused.copy_(torch.where(chosen, 0.0, self.unused + any_feature))
        self._revive(counts, pending["errors"], share)

    def _means(self) -> Tensor:
        """m/N, debiased and smoothed (k, dim); of no meaning where N is zero."""
        weight = self.weight.clamp(min=torch.finfo(self.weight.dtype).tiny)
        counts, sums = self.counts / weight, self.sums / weight
        total, epsilon = counts.sum(), self.config.epsilon
        smoothed = (counts + epsilon) / (total + self.config.num_codes * epsilon) * total
        return sums / rearrange(smoothed, "k -> k 1")

    def _revive(self, counts: Tensor, errors: Tensor, share: Tensor) -> None:
        """Give revived codes the history of one update in which they took half of their parent's features."""
        revived, parents, places = revive(self.codebook, counts, errors, self.unused >= self.config.revive_after)
        history = torch.where(revived, share * counts[parents] / 2, self.counts)
        wide = rearrange(revived, "k -> k 1")
        self.codebook.copy_(torch.where(wide, places, self.codebook))
        self.sums.copy_(torch.where(wide, rearrange(history, "k -> k 1") * places, self.sums))
        self.counts.copy_(history)
        self.unused.masked_fill_(revived, 0)

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Set the codebook to different rows of z (n, dim) and forget all averages.

        k-means would add nothing: debiased averages make the first update a full Lloyd step. Rows, unlike its means, are
        each the nearest of some feature.
        """
        self.codebook.copy_(sampled_codebook(z, self.config.num_codes))
        for state in (self.counts, self.sums, self.weight, self.unused):
            state.zero_()
