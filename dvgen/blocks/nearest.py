"""The nearest code of every feature, found fast in float32 and proved, or found again in float64.

The obvious score, z.e - |e|^2/2 in float32, is wrong for features that are small, large, or far from the origin: the
codebook is therefore centred and scaled first. What remains is rounding, which has a bound; a feature whose two best
scores lie closer than that bound is searched again in float64 by plain differences.
"""

import torch
from torch import Tensor

CHUNK_ELEMENTS = 2**22
"""Scores held at a time, 16 MB of float32: a chunk stays in cache, and memory does not grow with the batch."""

_UNIT_ROUNDOFF = {"highest": 2.0**-24, "high": 2.0**-11, "medium": 2.0**-8}


@torch.no_grad()
def nearest(z: Tensor, codebook: Tensor) -> Tensor:
    """The row of `codebook` (k, d) nearest to each row of `z` (n, d) in the Euclidean norm: int64 (n,), ties to the lowest.

    Carries no gradient, and autocast does not touch it. All values must be finite.
    """
    if codebook.shape[0] == 1:
        return torch.zeros(z.shape[0], dtype=torch.int64, device=z.device)
    rows = max(1, CHUNK_ELEMENTS // codebook.shape[0])
    with torch.autocast(z.device.type, enabled=False):
        return _Search(codebook.double()).all(z, rows)


class _Search:
    """One codebook, prepared: centred on its mean and scaled by a power of two to a largest entry in [1/2, 1)."""

    def __init__(self, codebook: Tensor) -> None:
        self.codebook = codebook
        self.centre = codebook.mean(dim=0)
        centred = codebook - self.centre
        self.scale = torch.exp2(-torch.frexp(centred.abs().amax()).exponent.double())
        scaled = centred * self.scale
        half_squares = scaled.square().sum(dim=1) / 2
        self.weight = scaled.float().T
        self.bias = -half_squares.float()
        self.largest = (2 * half_squares.amax()).sqrt()
        # inputs, d products, d sums and the bias are each rounded once: fewer than dim + 8 roundings of terms whose
        # absolute sum is at most |z||e| + |e|^2/2 (Higham, Accuracy and Stability, section 3.1); two scores are compared
        unit = _UNIT_ROUNDOFF[torch.get_float32_matmul_precision()]
        self.roundings = 2 * (codebook.shape[1] + 8) * unit

    def all(self, z: Tensor, rows: int) -> Tensor:
        """Codes of all rows of z, `rows` at a time."""
        return torch.cat([self._chunk(part.double()) for part in z.split(rows)])

    def _chunk(self, z: Tensor) -> Tensor:
        scaled = (z - self.centre) * self.scale
        scores = torch.addmm(self.bias, scaled.float(), self.weight)
        best, codes = scores.max(dim=1)
        second = scores.scatter_(1, codes.unsqueeze(1), -torch.inf).amax(dim=1)
        bound = self.roundings * self.largest * (scaled.norm(dim=1) + self.largest / 2)
        # written so that an overflow (inf - inf is NaN) counts as doubt
        doubtful = (~(best.double() - second.double() > bound)).nonzero().squeeze(1)
        if doubtful.numel():
            codes[doubtful] = _brute_force(z[doubtful], self.codebook)
        return codes


def _brute_force(z: Tensor, codebook: Tensor) -> Tensor:
    return torch.cdist(z, codebook, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1)
