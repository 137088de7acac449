"""The kernel distance between two sets of signals, in the space of a `Features` plugin: KID for the Inception features."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from dvgen.errors import ConfigError, ShapeError
from dvgen.evaluation.frechet import frechet_key
from dvgen.evaluation.measurement import Interval, Key
from dvgen.evaluation.statistics import mean_interval
from dvgen.interfaces.features import Features

PAIRS = 2**24
"""Kernel values in memory at a time: 128 MiB in float64."""
BLOCKS = 10
"""Parts of which an interval is made."""
SMALLEST = 10
"""Rows of a part."""


@torch.no_grad()
def kernel_distance(a: Tensor, b: Tensor, *, pairs: int = PAIRS) -> float:
    """The unbiased estimate of MMD^2 of feature tables (n, dim) and (m, dim), with k(x, y) = (x.y / dim + 1)^3, in float64.

    Binkowski et al. 2018 (arXiv 1801.01401), section 4; Gretton et al. 2012, equation 3: the mean of k over pairs of
    different rows of a, plus that of b, minus twice the mean over pairs of a row of a and a row of b. It may be negative:
    for two sets of one distribution its expectation is 0, whatever their sizes.

    All pairs are used. The released code of KID averages over 100 random subsets of 1000 rows, which has the same
    expectation, but adds noise and a seed; here the value is a pure function of the tables. Memory is bounded all the
    same: kernel values are made and summed in blocks of about `pairs`.
    Raises ShapeError for tables that do not fit, and ConfigError for one of fewer than two rows, which has no pair.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ShapeError(f"expected feature tables (n, dim) and (m, dim), got {tuple(a.shape)} and {tuple(b.shape)}")
    n, m = len(a), len(b)
    if min(n, m) < 2:
        raise ConfigError(f"a kernel distance needs two sets of at least 2 signals, got {n} and {m}; raise evaluate.samples")
    a, b = a.double(), b.double()
    between = math.fsum(_block_sums(a, b, pairs)) / (n * m)
    return _mean_within(a, pairs) + _mean_within(b, pairs) - 2 * between


def kernel_interval(value: float, networks: Sequence[tuple[Tensor, Tensor]]) -> Interval | None:
    """An interval of 95 % around `value`, the mean kernel distance of these pairs of tables (n, dim) and (m, dim).

    Half its width is that of Student's interval of the mean over ten disjoint parts of both tables, each an unbiased
    estimate of the same distance; the parts are the same rows in every network. Too wide for sets of one distribution,
    where all pairs together know more than the parts. None where a part would have fewer than ten rows.
    """
    parts = [tuple(table.tensor_split(BLOCKS) for table in pair) for pair in networks]
    if min(len(block) for sides in parts for side in sides for block in side) < SMALLEST:
        return None
    rows = [[kernel_distance(a, b) for a, b in zip(*sides, strict=True)] for sides in parts]
    mean, interval = mean_interval(np.mean(rows, axis=0))
    return None if interval is None else (value - (mean - interval[0]), value + (interval[1] - mean))


def kernel_label(features: Features) -> str:
    """ "KID" for the 2015 Inception features and for nothing else, otherwise such as "KD[rand:v1]"."""
    return "KID" if features.official else f"KD[{features.label}]"


def kernel_key(features: Features, reference: str, sizes: tuple[int, int], sampler: Mapping[str, str], *, bits: int = 8) -> Key:
    """The key of a kernel distance, from what `frechet_key` takes; it has no bias, so that only its noise depends on sizes."""
    protocol = dict(frechet_key(features, reference, sizes, sampler, bits=bits).protocol)
    protocol["estimator"] = "unbiased MMD^2 of all pairs, cubic kernel, float64"
    return Key(kernel_label(features), "", protocol)


def _mean_within(a: Tensor, pairs: int) -> float:
    """The mean of the kernel over pairs of different rows."""
    n = len(a)
    own = _kernel(a.square().sum(dim=1), a.shape[1]).sum().item()
    return math.fsum([*_block_sums(a, a, pairs), -own]) / (n * (n - 1))


def _block_sums(a: Tensor, b: Tensor, pairs: int) -> list[float]:
    """Sums of the kernel over all pairs, a few rows of a at a time."""
    rows = max(1, pairs // len(b))
    return [_kernel(block @ b.T, a.shape[1]).sum().item() for block in a.split(rows)]


def _kernel(products: Tensor, dim: int) -> Tensor:
    return (products / dim + 1) ** 3
