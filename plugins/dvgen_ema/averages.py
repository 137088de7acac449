"""The codebook that follows its features by exponential moving averages, wherever its codes may stand.

Shapes: n rows, k codes, d width, r codes that may be revived.
"""

from abc import abstractmethod

import torch
from einops import rearrange
from torch import Tensor

from dvgen.blocks.codebook import code_level, look_up
from dvgen.blocks.rows import Rows
from dvgen.interfaces.codes import Codes, Level
from dvgen.interfaces.quantizer import Quantizer
from dvgen_ema.revival import revive


class MovingAverages(Quantizer):
    """VQ-VAE (van den Oord et al., 2017), appendix A.1: the averages N of counts and m of sums; e = m/N.

    Both averages start at zero, so they are wrong by the same factor, 1 - decay^t, and their ratio is right from the first
    update. N is not smoothed as in Sonnet's VectorQuantizerEMA: only a code that features chose moves, so N is not zero, and
    smoothing draws codes to the origin, the more the farther they are from it. A code that no feature chose keeps its place,
    which m/N would not change either. One that no feature chose in `revive_after` updates in a row is placed anew beside a
    code that quantizes badly (`revival.py`). Nothing here waits for the device.
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor
    unused: Tensor

    def __init__(self, codebook: Tensor, *, decay: float, revive_after: int) -> None:
        super().__init__()
        self.num_codes, self.dim = codebook.shape
        self.decay, self.revive_after = decay, revive_after
        self.register_buffer("codebook", codebook)
        self.register_buffer("counts", torch.zeros(self.num_codes))
        self.register_buffer("sums", torch.zeros(self.num_codes, self.dim))
        self.register_buffer("unused", torch.zeros(self.num_codes))

    @abstractmethod
    def _placed(self, points: Tensor, otherwise: Tensor) -> Tensor:
        """Points (*, d) brought to where codes may stand; `otherwise` (*, d), which stand there, for one that cannot be."""

    def levels(self, grid: tuple[int, ...]) -> tuple[Level, ...]:
        """One level on the same grid."""
        return code_level(grid, self.num_codes)

    def decode(self, codes: Codes) -> Tensor:
        """The rows of the codebook."""
        return look_up(codes, self.codebook)

    @torch.no_grad()
    def _pending(self, rows: Rows, codes: Tensor, values: Tensor, squares: Tensor) -> dict[str, Tensor]:
        """Of the features `values` (n, d) that chose `codes` (n,): counts (k,), sums (k, d), and errors (k,), the sums of
        their squared distances; squares: (n, d), those distances entry by entry.
        """
        return {
            "counts": rows.count_codes(codes, self.num_codes).to(values.dtype),
            "sums": rows.sum_by_code(codes, self.num_codes, values.detach()),
            "errors": rows.sum_by_code(codes, self.num_codes, squares.detach().sum(dim=1)),
        }

    @torch.no_grad()
    def update(self, pending: dict[str, Tensor]) -> None:
        """Move the averages and the chosen codes; revive codes long unused. A batch without features moves nothing."""
        if self.decay == 1:
            return  # averages that take in nothing: the codebook is frozen
        counts, sums, errors = (pending[name].to(self.codebook.dtype) for name in ("counts", "sums", "errors"))
        any_feature = counts.sum() > 0
        share = any_feature.to(counts.dtype) * (1 - self.decay)
        self.counts.lerp_(counts, share)
        self.sums.lerp_(sums, share)
        chosen = counts > 0
        means = self.sums / rearrange(torch.where(chosen, self.counts, 1.0), "k -> k 1")
        places = self._placed(means, self.codebook)
        torch.where(rearrange(chosen, "k -> k 1"), places, self.codebook, out=self.codebook)
        self.unused.add_(any_feature).masked_fill_(chosen, 0)
        self._revive(counts, errors, share)

    def _revive(self, counts: Tensor, errors: Tensor, share: Tensor) -> None:
        """Give revived codes the history of one update in which they took half of their parent's features."""
        codes, revived, parents, near = revive(self.codebook, counts, errors, self.unused >= self.revive_after)
        beside = self.codebook[parents]
        places = self._placed(near, beside)
        # a cell as small as the rounding of its place has no room for two
        moved = revived & (places != beside).any(dim=1)
        history = share * counts[parents] / 2
        new = (places, history, rearrange(history, "r -> r 1") * places, torch.zeros_like(history))
        for state, values in zip((self.codebook, self.counts, self.sums, self.unused), new, strict=True):
            where = moved.view(-1, *(1,) * (values.ndim - 1))
            state.index_copy_(0, codes, torch.where(where, values, state[codes]))

    def _start(self, codebook: Tensor) -> None:
        """Set the codebook and forget all averages."""
        self.codebook.copy_(codebook)
        for state in (self.counts, self.sums, self.unused):
            state.zero_()
