"""Priors that only count: each code given some of what comes before it. One level at a time; codes int64 (n, *grid)."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Self, final

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray
from torch import Tensor

from dvgen.errors import ShapeError

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

NEIGHBOURS = {"left": (0, -1), "up": (-1, 0), "upper left": (-1, -1), "upper right": (-1, 1)}
"""Offsets (rows, columns) of what comes before a code in raster order; in one dimension they stand for 1, 2, 3 and 4 back."""
POSITION = "position"
"""The place of a code in its grid, given instead of a neighbour."""


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
        """p(code | context), (m,), given the lower-order probability of each code; a context of -1 was never seen."""
        pair, known_pair = _find(self.pairs, context * self.num_codes + code)
        place, known = _find(self.contexts, context)
        kept = np.where(known_pair, self.counts[pair] - self.discount, 0)
        smoothed = (kept + self.discount * self.kinds[place] * lower) / self.totals[place]
        return np.where(known, smoothed, lower)


Given = tuple[int, ...]
"""Which of the things given are used: their places, ascending."""


@final
@frozen(eq=False)
class Conditional:
    """Each code given some of what is before it: names of NEIGHBOURS, or POSITION.

    Backs off from everything given to the mean of all that one thing less would say, and so on down to the code's share
    and to the uniform distribution: a lattice, since no one order of dropping neighbours suits all codes (with 64 codes
    and more a fixed order loses a tenth of a nat and more). A neighbour beyond the border is a symbol of its own.
    """

    num_codes: int
    names: tuple[str, ...]
    known: Mapping[Given, Integers] = field(repr=False)
    following: Mapping[Given, Following] = field(repr=False)

    @classmethod
    def fit(cls, codes: Tensor, num_codes: int, names: Sequence[str]) -> Self:
        """Count codes (n, *grid); raises ShapeError for codes outside 0..num_codes-1."""
        values = _array(codes, num_codes)
        code, columns, base = values.ravel(), _columns(values, names, num_codes), _base(values, num_codes)
        # contexts are numbered in the order of their values, one thing given at a time: all at once would overflow 64 bits
        numbers: dict[Given, Integers] = {(): np.zeros_like(code)}
        known, following = {}, {}
        for given in _lattice(len(names)):
            if given:
                joined = numbers[given[:-1]] * base + columns[given[-1]]
                known[given], numbers[given] = np.unique(joined, return_inverse=True)
            following[given] = Following.fit(numbers[given], code, num_codes)
        return cls(num_codes, tuple(names), known, following)

    def nats(self, codes: Tensor) -> Floats:
        """Negative log-probability in nats of each image, (n,) float64."""
        values = _array(codes, self.num_codes)
        columns = _columns(values, self.names, self.num_codes)
        probability = self.probability(columns, values.ravel(), _base(values, self.num_codes))
        return -np.log(probability).reshape(len(values), -1).sum(axis=1)

    def probability(self, columns: Sequence[Integers], code: Integers, base: int) -> Floats:
        """p(code | columns), (m,): the value of each thing given, (m,) each; `num_codes` for a neighbour beyond the border.

        base: more than any value.
        """
        numbers: dict[Given, Integers] = {(): np.zeros_like(code)}
        found: dict[Given, Floats] = {}
        for given in _lattice(len(self.names)):
            lower: Floats | float = 1.0 / self.num_codes
            if given:
                # below 0, and so found nowhere, where what is given before was never seen
                place, is_known = _find(self.known[given], numbers[given[:-1]] * base + columns[given[-1]])
                numbers[given] = np.where(is_known, place, -1)
                fewer = [found[less] for less in combinations(given, len(given) - 1)]
                lower = np.mean(fewer, axis=0)
            found[given] = self.following[given].probability(numbers[given], code, lower)
        return found[tuple(range(len(self.names)))]


def _lattice(size: int) -> list[Given]:
    """Every choice among `size` things, the smaller first."""
    return [given for count in range(size + 1) for given in combinations(range(size), count)]


def _base(values: Integers, num_codes: int) -> int:
    return max(num_codes + 1, math.prod(values.shape[1:]))


def _columns(values: Integers, names: Sequence[str], num_codes: int) -> list[Integers]:
    """What is given of every code, (m,) each: a neighbour's code, `num_codes` beyond the border, or the code's place."""
    places = np.arange(math.prod(values.shape[1:]), dtype=np.int64)
    return [np.tile(places, len(values)) if name == POSITION else _neighbour(values, name, num_codes).ravel() for name in names]


def _neighbour(values: Integers, name: str, border: int) -> Integers:
    down, across = NEIGHBOURS[name]
    if values.ndim == 2:
        down, across = 0, -1 - list(NEIGHBOURS).index(name)
    wide = [(0, 0)] * values.ndim
    wide[-1] = (max(-across, 0), max(across, 0))
    if values.ndim > 2:
        wide[-2] = (-down, 0)
    padded = np.pad(values, wide, constant_values=border)
    kept = padded[..., max(across, 0) : max(across, 0) + values.shape[-1]]
    return kept if values.ndim == 2 else kept[..., : values.shape[-2], :]


def _array(codes: Tensor, num_codes: int) -> Integers:
    values = codes.cpu().numpy()
    if values.ndim < 2 or values.dtype != np.int64 or not values.size:
        raise ShapeError(f"expected int64 codes of shape (n, *grid), got {values.dtype} of shape {values.shape}")
    if values.min() < 0 or values.max() >= num_codes:
        raise ShapeError(f"codes must be in 0..{num_codes - 1} to be counted, got {values.min()}..{values.max()}")
    return values


def _find(keys: Integers, wanted: Integers) -> tuple[Integers, NDArray[np.bool_]]:
    """The place of each wanted key among the sorted keys, and whether it is there at all."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return place, keys[place] == wanted
