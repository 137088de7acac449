"""The Frechet distance between two sets of signals, in the space of a `Features` plugin, and its limit for endless sets.

torchmetrics computes it where its way is right and fast, fed with features in float64 through a module that passes them on:
given images it would truncate where we round and resize as no published protocol does, and given float32 it would return
float32.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from dvgen.data.order import permutation
from dvgen.errors import ConfigError, NonFiniteError, ShapeError
from dvgen.evaluation.measurement import Key, sampler_protocol
from dvgen.evaluation.reconstruction import from_uint8, to_uint8
from dvgen.evaluation.sounds import from_int16, to_int16
from dvgen.interfaces.features import Features
from dvgen.seeding import fold

WIDE = 512
"""Features up to which torchmetrics is used: the eigenvalues of a general matrix take minutes for a few thousand features."""
SIZES = 15
LEAST = 2.5
"""The smallest set of the extrapolation has this many rows a feature, or a tenth of all rows: as 5 000 of 50 000 are for the
2048 features of FID. Below it the distance is no longer a straight line in 1/n."""
ENOUGH = 5
"""Rows a feature from which on there is an extrapolation: the smallest set is then at most half of all rows."""


@torch.no_grad()
def feature_table(features: Features, batches: Iterable[Tensor]) -> Tensor:
    """The features of batches of signals (b, channels, *size): (n, members * dim) float64 on the CPU, n the signals given.

    Signals are rounded as files hold them: images to 8 bits, sound (b, channels, t) to 16.

    Raises ConfigError when there are no batches and NonFiniteError for features that are not finite.
    """
    rows = [features(_rounded(signals)).double().cpu() for signals in batches]
    if not rows:
        raise ConfigError("no images to measure; give at least one batch")
    table = torch.cat(rows)
    if not bool(table.isfinite().all()):
        raise NonFiniteError(f"features {features.label!r} gave a value that is not finite")
    return table


@torch.no_grad()
def frechet_distance(a: Tensor, b: Tensor, *, allow_small: bool = False) -> float:
    """|mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) of feature tables (n, dim) and (m, dim), not below 0.

    Covariances are unbiased (n - 1). Dowson and Landau 1982; Heusel et al. 2017, section 2.
    Raises ConfigError for a set with no more rows than features, whose covariance has no inverse and whose distance is
    mostly bias, unless `allow_small`.
    """
    if a.ndim != 2 or a.shape[1:] != b.shape[1:]:
        raise ShapeError(f"expected feature tables (n, dim) and (m, dim), got {tuple(a.shape)} and {tuple(b.shape)}")
    for table in (a, b):
        check_rows(table.shape[0], table.shape[1], allow_small=allow_small)
    # sums of squares cancel badly far from 0; a common shift changes no distance
    shift = a.double().mean(dim=0)
    full = min(len(a), len(b)) > a.shape[1]
    distance = _by_torchmetrics if full and a.shape[1] <= WIDE else _by_nuclear_norm
    return max(distance(a.double() - shift, b.double() - shift), 0.0)


def frechet_infinity(a: Tensor, b: Tensor) -> float | None:
    """The Frechet distance of endless sets: of sets of 15 sizes n, fitted by a straight line in 1/n, at 1/n = 0.

    Chong and Forsyth 2020 (arXiv 1911.07023). The bias is a property of what is measured, so equal sizes do not
    cancel it. Differences from their code: both sets shrink together, since ours are equally small and both are biased,
    and a size is measured on all its disjoint subsets, whose mean is less noisy than one. The order from which subsets are
    taken is fixed, so that the value is a function of the tables. It may be a little below 0.

    None where the smaller table has fewer than ENOUGH rows a feature: there the line would be fitted to noise and to curvature.
    """
    n, dim = min(len(a), len(b)), a.shape[1]
    if n < ENOUGH * dim:
        return None
    sizes = np.linspace(max(n / 10, LEAST * dim + 1), n, SIZES).astype(int).tolist()
    a, b = (table[permutation(len(table), fold(0, "frechet infinity", side))] for side, table in enumerate((a, b)))
    return _at_infinity(sizes, [_mean_of_subsets(a, b, size) for size in sizes])


def check_rows(n: int, dim: int, *, allow_small: bool = False) -> None:
    """Raise ConfigError for a set too small for features of this width: n <= dim, for FID n <= 2048, or n < 2 at all."""
    least = 2 if allow_small else dim + 1
    if n < least:
        raise ConfigError(
            f"{n} images are too few for a Frechet distance of {dim} features: at least {least} are needed, "
            f"and {20 * dim} make its bias small; raise evaluate.samples, use more data, or use features of fewer dimensions"
        )


def frechet_label(features: Features) -> str:
    """ "FID" for the 2015 Inception features and for nothing else, otherwise such as "FD[rand:v1]"."""
    return "FID" if features.official else f"FD[{features.label}]"


def frechet_key(
    features: Features, reference: str, sizes: tuple[int, int], sampler: Mapping[str, str], *, bits: int = 8
) -> Key:
    """The key of a Frechet distance.

    reference: identity (a hash) of the reference images. sizes: images of the reference and of the measured set; the
    distance is biased by both. sampler: how the measured set was drawn, such as {"temperature": "1.0"}. bits: what signals
    were rounded to, 8 for images and 16 for sound.
    """
    protocol = {
        "features": features.label,
        "weights": features.weights_hash,
        "networks": str(features.members),
        "rounding": f"{bits} bits, nearest",
        "estimator": "unbiased covariances, float64",
        "reference": reference,
        "n reference": str(sizes[0]),
        "n measured": str(sizes[1]),
    }
    return Key(frechet_label(features), "", protocol | sampler_protocol(sampler))


def _by_torchmetrics(a: Tensor, b: Tensor) -> float:
    from torchmetrics.image.fid import FrechetInceptionDistance  # 3 s of imports, only when a distance is wanted

    # one process has both tables: summing over the others would count them again, or wait for them for ever
    metric = FrechetInceptionDistance(feature=_Passed(a.shape[1]), normalize=True, sync_on_compute=False)
    metric.update(a, real=True)
    metric.update(b, real=False)
    return float(metric.compute())


def _by_nuclear_norm(a: Tensor, b: Tensor) -> float:
    """By tr (C_a C_b)^(1/2) = sum of the singular values of X Y', for any X and Y with X'X = C_a and Y'Y = C_b.

    The scaled rows themselves are such, and where there are more rows than features, so is the triangle of their QR
    decomposition. No covariance is made, so that no digits are lost to squares, and few rows cost little.
    """
    x, y = (_root(table) for table in (a, b))
    means = (a.mean(dim=0) - b.mean(dim=0)).square().sum()
    traces = x.square().sum() + y.square().sum()
    return float(means + traces - 2 * torch.linalg.svdvals(x @ y.T).sum())


def _root(table: Tensor) -> Tensor:
    """X (at most dim, dim) with X'X the unbiased covariance."""
    rows = (table - table.mean(dim=0)) / (len(table) - 1) ** 0.5
    return torch.linalg.qr(rows, mode="r").R if len(rows) > rows.shape[1] else rows


def _mean_of_subsets(a: Tensor, b: Tensor, size: int) -> float:
    """The mean distance of the disjoint pairs of subsets of this size, the first rows first."""
    pairs = [(x, y) for x, y in zip(a.split(size), b.split(size), strict=False) if min(len(x), len(y)) == size]
    return sum(frechet_distance(x, y) for x, y in pairs) / len(pairs)


def _at_infinity(sizes: list[int], values: list[float]) -> float:
    """The value at 1/n = 0 of the least-squares line through values against 1/n."""
    return float(np.polynomial.polynomial.polyfit(1 / np.array(sizes), np.array(values), 1)[0])


def _rounded(signals: Tensor) -> Tensor:
    """Float32 again, so that features see what a file would give back."""
    return from_int16(to_int16(signals)) if signals.ndim == 3 else from_uint8(to_uint8(signals))


class _Passed(nn.Module):
    """Features in, the same features out."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features
