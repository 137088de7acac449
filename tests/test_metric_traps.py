"""What libraries of metrics get wrong in silence, each beside the value that is right."""

import warnings

import numpy as np
import pytest
import torch
from attrs import frozen
from torch import Tensor, nn

from dvgen.errors import ConfigError
from dvgen.evaluation.frechet import feature_table, frechet_distance
from dvgen.evaluation.kernel_distance import kernel_distance
from dvgen.evaluation.reconstruction import from_uint8, psnr, to_uint8
from dvgen.interfaces.features import Features


class Passed(nn.Module):
    """Features in, the same features out."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


class Rows(Features):
    """Every signal's own values."""

    @frozen
    class Config:
        pass

    dim = 4
    label = "rows"
    weights_hash = "00"

    def forward(self, signals: Tensor) -> Tensor:
        return signals.flatten(1)


def table(n: int, dim: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def by_covariances(a: np.ndarray, b: np.ndarray, dtype: type = np.float64) -> float:
    """The formula in numpy, from numpy's covariances in this precision."""
    one, two = (np.cov(x.astype(dtype), rowvar=False, dtype=dtype) for x in (a, b))
    root = np.sqrt(np.linalg.eigvals(one @ two).astype(complex)).real.sum()
    means = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return float(means + np.trace(one) + np.trace(two) - 2 * root)


def torchmetrics_fid(a: Tensor, b: Tensor) -> float:
    """As it comes, on features."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=Passed(a.shape[1]), normalize=True)
    metric.update(a, real=True)
    metric.update(b, real=False)
    return float(metric.compute())


def test_a_cast_truncates_63_of_256_grey_levels_and_rounding_none() -> None:
    """Signals in [-1, 1], brought to [0, 1] and cast as torchmetrics casts them, come back one level lower."""
    pixels = torch.arange(256, dtype=torch.uint8)
    signals = pixels.float() / 127.5 - 1
    cast = ((signals + 1) / 2 * 255).byte()
    assert int((cast.int() == pixels.int() - 1).sum()) == 63
    assert int((cast == pixels).sum()) == 256 - 63
    assert torch.equal(to_uint8(signals), pixels)


def test_a_set_without_rows_is_named_where_torchmetrics_breaks() -> None:
    """A process that was given no batch, or restored statistics, ends there in an AttributeError."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=Passed(4), normalize=True)
    for name, value in (("real", table(9, 4, 0)), ("fake", table(9, 4, 1))):
        setattr(metric, f"{name}_features_sum", value.sum(dim=0))
        setattr(metric, f"{name}_features_cov_sum", value.T @ value)
        setattr(metric, f"{name}_features_num_samples", torch.tensor(9))
    with pytest.raises(AttributeError, match="orig_dtype"), pytest.warns(UserWarning, match="before the ``update``"):
        metric.compute()
    with pytest.raises(ConfigError, match="0 images are too few"):
        frechet_distance(torch.zeros(0, 4), table(9, 4, 1))
    with pytest.raises(ConfigError, match="no images"):
        feature_table(Rows(), [])


def test_features_in_float32_do_not_round_the_result() -> None:
    a, b = table(200, 8, 0).float(), table(200, 8, 1, 0.3).float()
    expected = by_covariances(a.double().numpy(), b.double().numpy())
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)
    assert torchmetrics_fid(a, b) == float(np.float32(torchmetrics_fid(a, b)))
    assert abs(torchmetrics_fid(a, b) - expected) > 1e-9


def test_covariances_in_float32_would_be_wrong_in_the_fourth_digit() -> None:
    """With fewer rows than features the eigenvalues of 0 come back as noise, and its root is not small."""
    a, b = table(60, 200, 0) / 14, table(60, 200, 1) / 14
    found = frechet_distance(a, b, allow_small=True)
    assert found == pytest.approx(by_covariances(a.numpy(), b.numpy()), rel=1e-5)
    rough = by_covariances(a.numpy(), b.numpy(), np.float32)
    assert abs(rough / found - 1) > 3e-4


def test_sums_of_squares_lose_digits_far_from_zero_and_a_shift_does_not() -> None:
    a, b = table(400, 6, 0), 1.4 * table(400, 6, 1)
    expected = frechet_distance(a, b)
    assert frechet_distance(a + 1e6, b + 1e6) == pytest.approx(expected, rel=1e-8)
    assert abs(torchmetrics_fid(a + 1e6, b + 1e6) / expected - 1) > 1e-6


def test_the_kernel_distance_does_not_hang_on_the_state_of_torchs_random_numbers() -> None:
    """torchmetrics draws its subsets from the global state without a seed: every call gives another value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that it keeps features in memory
        from torchmetrics.image.kid import KernelInceptionDistance

        metric = KernelInceptionDistance(feature=Passed(6), subsets=3, subset_size=20, normalize=True)
    a, b = table(60, 6, 0), table(60, 6, 1, 0.3)
    metric.update(a, real=True)
    metric.update(b, real=False)
    drawn = []
    for _ in range(2):
        metric._computed = None
        drawn.append(float(metric.compute()[0]))
    assert drawn[0] != drawn[1]
    state = torch.get_rng_state()
    first = kernel_distance(a, b)
    torch.manual_seed(123)
    assert kernel_distance(a, b) == first
    torch.set_rng_state(state)


@pytest.mark.parametrize(("n", "batch"), [(10, 4), (8, 4), (3, 5)])
def test_every_signal_is_measured_once(n: int, batch: int) -> None:
    """A sampler for several processes pads the last batch by repeating signals; a table has one row for each."""
    signals = from_uint8(torch.arange(4 * n, dtype=torch.uint8)).reshape(n, 1, 2, 2)
    found = feature_table(Rows(), signals.split(batch))
    assert torch.equal(found, signals.flatten(1).double())


def test_the_mean_psnr_is_not_the_psnr_of_the_pooled_error() -> None:
    """Pooled, which is torchmetrics' default, the worst image decides: 4 dB lower here."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    signals = torch.full((2, 1, 8, 8), 100, dtype=torch.uint8)
    reconstructed = torch.stack([signals[0] + 50, signals[1] + 5])
    found = psnr(from_uint8(reconstructed), from_uint8(signals)).mean()
    pooled = peak_signal_noise_ratio(reconstructed / 255, signals / 255, data_range=1.0)
    separate = peak_signal_noise_ratio(reconstructed / 255, signals / 255, data_range=1.0, dim=(1, 2, 3))
    assert float(found) == pytest.approx(float(separate), rel=1e-5)
    assert found - pooled > 4
