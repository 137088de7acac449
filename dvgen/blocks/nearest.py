"""The nearest code of every feature, found fast in float32 and proved, or found again in float64.

The obvious score, z.e - |e|^2/2 in float32, is wrong for features that are small, large, or far from the origin: the
codebook is therefore centred and scaled first. What remains is rounding, which has a bound (the certificate). A feature
whose two best scores lie closer than that bound is compared with its best few codes in float64, by plain differences, and
if these may not be all, with every code. Compiled code and training steps on an accelerator do not wait for the device
(`may_look`), so there the best few of every feature are compared in float64, and whether these few were enough is reported.

Shapes: n features, k codes, d width, c candidates.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from dvgen.interfaces.looking import may_look

CHUNK_ELEMENTS = 2**22
"""Scores held at a time, 16 MB of float32: a chunk stays in cache, and memory does not grow with the batch."""

BLOCK = 64
"""Codes of which the best is sought at once."""

CANDIDATES = 4
"""How many codes of a feature are compared in float64 where values are not looked at."""

_UNIT_ROUNDOFF = {"highest": 2.0**-24, "high": 2.0**-11, "medium": 2.0**-8}


class Nearest(NamedTuple):
    """codes: int64 (n,). certified: bool (n,), whether float32 alone proved the code of a feature (where values are not looked
    at, `may_look`: float32 and its candidates).

    Where they are looked at all codes are right, certified or not; elsewhere the certified ones are.
    """

    codes: Tensor
    certified: Tensor


@torch.no_grad()
def nearest(z: Tensor, codebook: Tensor) -> Nearest:
    """The row of `codebook` (k, d) nearest to each row of `z` (n, d) in the Euclidean norm, ties to the lowest row.

    Carries no gradient, and autocast does not touch it. All values must be finite.
    """
    if codebook.shape[0] == 1:
        return Nearest(
            torch.zeros(z.shape[0], dtype=torch.int64, device=z.device),
            torch.ones(z.shape[0], dtype=torch.bool, device=z.device),
        )
    # in half precision even the difference from the centre would be rounded away
    wide = torch.promote_types(torch.promote_types(z.dtype, codebook.dtype), torch.float32)
    z, codebook = z.to(wide), codebook.to(wide)
    if not may_look():
        return Nearest(*_candidate_search(z, codebook))
    with torch.autocast(z.device.type, enabled=False):
        search = _Search(codebook)
        codes, doubtful = search.best(z)
        again = doubtful.nonzero().squeeze(1)
        if again.numel():
            codes[again] = _search_again(z[again], search)
        return Nearest(codes, ~doubtful)


@torch.library.custom_op("dvgen::nearest", mutates_args=())
def _candidate_search(z: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and proofs without waiting for the device. One operator to the compiler, so that its chunks are not unrolled."""
    with torch.autocast(z.device.type, enabled=False):
        return _Search(codebook).best_of_candidates(z)


@_candidate_search.register_fake
def _(z: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    return z.new_empty(z.shape[0], dtype=torch.int64), z.new_empty(z.shape[0], dtype=torch.bool)


class _Search:
    """One codebook, prepared: centred near its mean, scaled by a power of two to a largest entry in [1/2, 1), and filled up
    to whole blocks with codes that never win.
    """

    def __init__(self, codebook: Tensor) -> None:
        self.codebook = codebook
        # of the codes' own dtype: the difference of two float32 numbers is then rounded once, as if taken in float64
        self.centre = codebook.mean(dim=0, dtype=torch.float64).to(codebook.dtype)
        scaled = codebook - self.centre
        exponent = torch.frexp(scaled.abs().amax()).exponent
        self.scale = torch.ldexp(torch.ones((), dtype=torch.float64, device=codebook.device), -exponent)
        scaled = (scaled * self.scale).float()
        half_squares = torch.linalg.vecdot(scaled, scaled) / 2
        missing = -codebook.shape[0] % BLOCK
        self.weight = F.pad(scaled, (0, 0, 0, missing)).T
        self.bias = F.pad(-half_squares, (0, missing), value=-torch.inf)
        self.largest = (2 * half_squares.amax()).sqrt()
        # inputs, d products, d sums, the squares and the bias are each rounded once: fewer than dim + 8 roundings of terms
        # whose absolute sum is at most |z||e| + |e|^2/2 (Higham, Accuracy and Stability, section 3.1); two are compared
        self.roundings = 2 * (codebook.shape[1] + 8) * _unit_roundoff()
        self.rows = max(1, CHUNK_ELEMENTS // len(self.bias))

    def best(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (n,), and which of them the two best scores leave in doubt (n,)."""
        codes, doubtful = self._results(z)
        scores = self._buffer(z)
        for start in range(0, z.shape[0], self.rows):
            part = slice(start, start + self.rows)
            bound = self._scores(z[part], scores)
            best, second, codes[part] = _two_best(scores[: len(bound)])
            doubtful[part] = _within(best, second, bound)
        return codes, doubtful

    def best_of_candidates(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (n,): the best few scores, compared in float64; and whether no other code can be nearer (n,)."""
        codes, proved = self._results(z)
        few = min(CANDIDATES, self.codebook.shape[0])
        scores = self._buffer(z)
        for start in range(0, z.shape[0], self.rows):
            part = slice(start, start + self.rows)
            bound = self._scores(z[part], scores)
            values, candidates = scores[: len(bound)].topk(few, dim=1)
            candidates = candidates.sort(dim=1).values  # the first of equals is then the lowest code
            distances = (z[part].double().unsqueeze(1) - self.codebook[candidates].double()).square().sum(dim=2)
            codes[part] = candidates.gather(1, distances.argmin(dim=1, keepdim=True)).squeeze(1)
            proved[part] = ~_within(values[:, 0], values[:, -1], bound) if few < self.codebook.shape[0] else True
        return codes, proved

    def _scores(self, z: Tensor, scores: Tensor) -> Tensor:
        """Put z.e - |e|^2/2 into the first rows of `scores`; returns the bound on the error of a difference of two (rows,)."""
        scaled = ((z - self.centre) * self.scale).float()
        torch.addmm(self.bias, scaled, self.weight, out=scores[: z.shape[0]])
        return self.roundings * self.largest * (scaled.norm(dim=1) + self.largest / 2)

    def _buffer(self, z: Tensor) -> Tensor:
        return z.new_empty(min(self.rows, z.shape[0]), len(self.bias), dtype=torch.float32)

    @staticmethod
    def _results(z: Tensor) -> tuple[Tensor, Tensor]:
        return z.new_empty(z.shape[0], dtype=torch.int64), z.new_empty(z.shape[0], dtype=torch.bool)


def _unit_roundoff() -> float:
    """Of float32 products as they are allowed to be; the coarsest where each backend has a setting of its own."""
    try:
        return _UNIT_ROUNDOFF[torch.get_float32_matmul_precision()]
    except RuntimeError:
        return max(_UNIT_ROUNDOFF.values())


def _two_best(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The largest score of each row (n, k), the second, and the first place of the largest: (n,) each.

    The maximum of a block is fast where a place is not asked for, so the place is sought in the best block alone.
    """
    blocks = scores.view(len(scores), -1, BLOCK)
    tops = blocks.amax(dim=2)
    block = tops.argmax(dim=1, keepdim=True)
    first = torch.arange(len(scores), device=scores.device) * tops.shape[1]
    inside = blocks.view(-1, BLOCK).index_select(0, first + block.squeeze(1))
    best, place = inside.max(dim=1, keepdim=True)
    others = tops.scatter_(1, block, -torch.inf).amax(dim=1)
    second = inside.scatter_(1, place, -torch.inf).amax(dim=1).maximum(others)
    return best.squeeze(1), second, (block * BLOCK + place).squeeze(1)


def _within(best: Tensor, other: Tensor, bound: Tensor) -> Tensor:
    """Whether two scores are too close to tell; written so that an overflow (inf - inf is NaN) counts as doubt."""
    return ~(best.double() - other.double() > bound)


def _search_again(z: Tensor, search: _Search) -> Tensor:
    """Codes (n,) of features that the scores left in doubt: mostly two codes are close, seldom more than a few."""
    codes, proved = search.best_of_candidates(z)
    rest = (~proved).nonzero().squeeze(1)
    if rest.numel():
        codes[rest] = _brute_force(z[rest], search.codebook)
    return codes


def _brute_force(z: Tensor, codebook: Tensor) -> Tensor:
    """Codes (n,) by plain differences in float64."""
    wide, rows = codebook.double(), max(1, CHUNK_ELEMENTS // (2 * codebook.shape[0]))
    plain = "donot_use_mm_for_euclid_dist"
    return torch.cat([torch.cdist(part.double(), wide, compute_mode=plain).argmin(dim=1) for part in z.split(rows)])
