"""The Frechet distance between two sets of images, in the space of a `Features` plugin.

torchmetrics computes it, fed with features in float64 through a module that passes them on: given images it would
truncate where we round and resize as no published protocol does, and given float32 it would return float32.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from dvgen.errors import ConfigError, NonFiniteError, ShapeError
from dvgen.evaluation.measurement import Key
from dvgen.evaluation.reconstruction import from_uint8, to_uint8
from dvgen.evaluation.sounds import from_int16, to_int16
from dvgen.interfaces.features import Features


@torch.no_grad()
def feature_table(features: Features, batches: Iterable[Tensor]) -> Tensor:
    """The features of batches of signals (b, channels, *size): (n, dim) float64 on the CPU.

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


def frechet_distance(a: Tensor, b: Tensor, *, allow_small: bool = False) -> float:
    """|mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) of feature tables (n, dim) and (m, dim), not below 0.

    Covariances are unbiased (n - 1). Dowson and Landau 1982; Heusel et al. 2017, section 2.
    Raises ConfigError for a set with no more rows than features, whose covariance has no inverse and whose distance is
    mostly bias, unless `allow_small`.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance  # 3 s of imports, only when a distance is wanted

    if a.ndim != 2 or a.shape[1:] != b.shape[1:]:
        raise ShapeError(f"expected feature tables (n, dim) and (m, dim), got {tuple(a.shape)} and {tuple(b.shape)}")
    for table in (a, b):
        check_rows(table.shape[0], table.shape[1], allow_small=allow_small)
    # one process has both tables: summing over the others would count them again, or wait for them for ever
    metric = FrechetInceptionDistance(feature=_Passed(a.shape[1]), normalize=True, sync_on_compute=False)
    # it accumulates raw sums of squares, which cancel badly far from 0; a common shift changes no distance
    shift = a.double().mean(dim=0)
    metric.update(a.double() - shift, real=True)
    metric.update(b.double() - shift, real=False)
    return max(float(metric.compute()), 0.0)


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
        "rounding": f"{bits} bits, nearest",
        "estimator": "torchmetrics, float64",
        "reference": reference,
        "n reference": str(sizes[0]),
        "n measured": str(sizes[1]),
    }
    return Key(frechet_label(features), "", protocol | {f"sampler {name}": value for name, value in sampler.items()})


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
