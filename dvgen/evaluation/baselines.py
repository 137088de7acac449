"""Priors that only count: the numbers a neural prior has to beat. One level at a time; codes int64 (n, *grid)."""

from typing import Self, final

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray
from torch import Tensor

from dvgen.errors import ShapeError

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@final
@frozen(eq=False)
class Unigram:
    """Every position draws from one distribution: counts plus one half (Krichevsky and Trofimov 1981)."""

    log_probs: Floats = field(repr=False)

    @classmethod
    def fit(cls, codes: Tensor, num_codes: int) -> Self:
        """Count codes (n, *grid); raises ShapeError for codes outside 0..num_codes-1."""
        counts = np.bincount(_array(codes, num_codes).ravel(), minlength=num_codes)
        return cls(np.log((counts + 0.5) / (counts.sum() + 0.5 * num_codes)))

    def nats(self, codes: Tensor) -> Floats:
        """Negative log-probability in nats of each image, (n,) float64."""
        values = _array(codes, len(self.log_probs))
        return -self.log_probs[values].reshape(len(values), -1).sum(axis=1)


@final
@frozen(eq=False)
class Following:
    """How often each code follows each context, smoothed with a lower-order estimate by absolute discounting.

    p(code | context) = (max(count - d, 0) + d * kinds * lower) / total, where kinds is the number of different codes
    seen after the context, and d = n1 / (n1 + 2 n2) from the numbers of pairs seen once and twice (Ney, Essen and Kneser
    1994). Sums to 1 when `lower` does. With 512 codes it beats Witten-Bell smoothing; with 64 the two are equal.
    """

    num_codes: int
    discount: float
    pairs: Integers
    counts: Integers
    contexts: Integers
    totals: Integers
    kinds: Integers

    @classmethod
    def fit(cls, context: Integers, code: Integers, num_codes: int) -> Self:
        """Count codes (m,) after contexts (m,), any non-negative numbers; only what occurs is stored."""
        pairs, counts = np.unique(context * num_codes + code, return_counts=True)
        contexts, first, kinds = np.unique(pairs // num_codes, return_index=True, return_counts=True)
        once, twice = int((counts == 1).sum()), int((counts == 2).sum())
        # never 0, or a code unseen after a context would be impossible; below 1, the least count
        discount = min(max(once / max(once + 2 * twice, 1), 0.05), 0.95)
        return cls(num_codes, discount, pairs, counts, contexts, np.add.reduceat(counts, first), kinds)

    def probability(self, context: Integers, code: Integers, lower: Floats | float) -> Floats:
        """p(code | context), (m,), given the lower-order probability of each code."""
        pair, known_pair = _find(self.pairs, context * self.num_codes + code)
        place, known = _find(self.contexts, context)
        kept = np.where(known_pair, self.counts[pair] - self.discount, 0)
        smoothed = (kept + self.discount * self.kinds[place] * lower) / self.totals[place]
        return np.where(known, smoothed, lower)


@final
@frozen(eq=False)
class LeftUp:
    """Each code given its left and its upper neighbour; in one dimension, given the two codes before it.

    Backs off from the pair of neighbours to the mean of what each says alone, to the unigram, to the uniform
    distribution. A neighbour beyond the border is a symbol of its own.
    """

    num_codes: int
    both: Following = field(repr=False)
    left: Following = field(repr=False)
    up: Following = field(repr=False)
    alone: Following = field(repr=False)

    @classmethod
    def fit(cls, codes: Tensor, num_codes: int) -> Self:
        """Count codes (n, *grid); raises ShapeError for codes outside 0..num_codes-1."""
        code, left, up = _neighbours(_array(codes, num_codes), num_codes)
        return cls(
            num_codes,
            both=Following.fit(left * (num_codes + 1) + up, code, num_codes),
            left=Following.fit(left, code, num_codes),
            up=Following.fit(up, code, num_codes),
            alone=Following.fit(np.zeros_like(code), code, num_codes),
        )

    def nats(self, codes: Tensor) -> Floats:
        """Negative log-probability in nats of each image, (n,) float64."""
        values = _array(codes, self.num_codes)
        code, left, up = _neighbours(values, self.num_codes)
        return -np.log(self.probability(left, up, code)).reshape(len(values), -1).sum(axis=1)

    def probability(self, left: Integers, up: Integers, code: Integers) -> Floats:
        """p(code | left, up), (m,); `num_codes` stands for a neighbour beyond the border."""
        alone = self.alone.probability(np.zeros_like(code), code, 1.0 / self.num_codes)
        one = (self.left.probability(left, code, alone) + self.up.probability(up, code, alone)) / 2
        return self.both.probability(left * (self.num_codes + 1) + up, code, one)


def _array(codes: Tensor, num_codes: int) -> Integers:
    values = codes.cpu().numpy()
    if values.ndim < 2 or values.dtype != np.int64 or not values.size:
        raise ShapeError(f"expected int64 codes of shape (n, *grid), got {values.dtype} of shape {values.shape}")
    if values.min() < 0 or values.max() >= num_codes:
        raise ShapeError(f"codes must be in 0..{num_codes - 1} to be counted, got {values.min()}..{values.max()}")
    return values


def _neighbours(values: Integers, border: int) -> tuple[Integers, Integers, Integers]:
    """Code, left neighbour and upper neighbour (in one dimension: the one before the left) of every position, (m,) each."""
    left, up = np.full_like(values, border), np.full_like(values, border)
    left[..., 1:] = values[..., :-1]
    if values.ndim == 2:
        up[..., 2:] = values[..., :-2]
    else:
        up[..., 1:, :] = values[..., :-1, :]
    return values.ravel(), left.ravel(), up.ravel()


def _find(keys: Integers, wanted: Integers) -> tuple[Integers, NDArray[np.bool_]]:
    """The place of each wanted key among the sorted keys, and whether it is there at all."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return place, keys[place] == wanted
