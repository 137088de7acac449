"""The Frechet distance is the closed form in float64, and "FID" is said of one extractor only."""

import numpy as np
import pytest
import torch
from attrs import frozen
from torch import Tensor

from dvgen.errors import ConfigError, NonFiniteError, ShapeError
from dvgen.evaluation import frechet
from dvgen.evaluation.frechet import feature_table, frechet_distance, frechet_key, frechet_label
from dvgen.interfaces.features import Features


def whitened(n: int, dim: int, seed: int) -> Tensor:
    """A sample whose mean is 0 and whose unbiased covariance is the identity, exactly."""
    x = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = x - x.mean(dim=0)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(x.T @ x / (n - 1)), x.T, upper=False).T


class Means(Features):
    """The mean of each channel."""

    @frozen
    class Config:
        pass

    dim = 2
    label = "means"
    weights_hash = "00"

    def forward(self, signals: Tensor) -> Tensor:
        return signals.mean(dim=(2, 3))


class Official(Means):
    official = True


@pytest.mark.parametrize("wide", [0, 512])  # features beyond which torchmetrics is left: both ways
@pytest.mark.parametrize(("n", "m", "dim"), [(200, 200, 8), (100, 333, 16), (40, 50, 1)])
def test_gaussians_of_known_moments_have_the_closed_form(
    n: int, m: int, dim: int, wide: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """|m1 - m2|^2 + dim (a - b)^2 for covariances a^2 I and b^2 I."""
    monkeypatch.setattr(frechet, "WIDE", wide)
    shift = torch.linspace(-1, 2, dim, dtype=torch.float64)
    a, b = 0.7 * whitened(n, dim, 0) + 1.0, 1.9 * whitened(m, dim, 1) + 1.0 + shift
    assert frechet_distance(a, b) == pytest.approx(float(shift.square().sum()) + dim * 1.2**2, abs=1e-9)


def torch_fidelity(a: Tensor, b: Tensor) -> float:
    """Its formula on equal features."""
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    statistics = [fid_features_to_statistics(table) for table in (a, b)]
    return fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]


@pytest.mark.parametrize("wide", [0, 512])
def test_it_is_torch_fidelitys_number(wide: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frechet, "WIDE", wide)
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(12, 12))
    a = torch.from_numpy(rng.normal(size=(300, 12)) @ mix)
    b = torch.from_numpy(rng.normal(size=(250, 12)) * 1.3 + 0.2)
    assert frechet_distance(a, b) == pytest.approx(torch_fidelity(a, b), rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(20, 30), (20, 200), (200, 20)])
def test_fewer_rows_than_features_have_the_same_formula(n: int, m: int) -> None:
    """Covariances without an inverse, of one set or of both; theirs has the noise of eigenvalues that are 0."""
    a, b = (torch.randn(k, 40, generator=torch.Generator().manual_seed(k), dtype=torch.float64) for k in (n, m + 1))
    assert frechet_distance(a, b, allow_small=True) == pytest.approx(torch_fidelity(a, b), rel=1e-5)
    # without a common direction the term of both covariances vanishes
    a[:, 20:], b[:, :20] = 0, 0
    spread = float(a.var(dim=0).sum() + b.var(dim=0).sum() + (a.mean(dim=0) - b.mean(dim=0)).square().sum())
    assert frechet_distance(a, b, allow_small=True) == pytest.approx(spread, rel=1e-12)


def test_a_set_is_at_distance_zero_from_itself_and_never_below() -> None:
    a = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)).double()
    assert 0 <= frechet_distance(a, a) < 1e-9


def test_features_far_from_zero_lose_no_digits() -> None:
    """Raw sums of squares lose six digits at an offset of a million."""
    a, b = whitened(200, 8, 0), 1.5 * whitened(200, 8, 1)
    assert frechet_distance(a + 1e6, b + 1e6) == pytest.approx(8 * 0.25, abs=1e-7)


def test_float32_tables_are_measured_in_float64() -> None:
    """The metric returns the precision of what it is fed."""
    a, b = whitened(100, 4, 0).float(), (whitened(100, 4, 1) * 2).float()
    value = frechet_distance(a, b)
    assert value == frechet_distance(a.double(), b.double())
    assert value != float(np.float32(value))


def test_measuring_twice_gives_the_same_and_disturbs_no_random_numbers() -> None:
    a, b = whitened(60, 4, 0), whitened(60, 4, 1) + 1
    before = torch.get_rng_state()
    assert frechet_distance(a, b) == frechet_distance(a, b)
    assert torch.equal(torch.get_rng_state(), before)


def test_sets_too_small_for_their_features_are_refused() -> None:
    a, b = torch.randn(8, 8).double(), torch.randn(100, 8).double()
    for pair in ((a, b), (b, a)):
        with pytest.raises(ConfigError, match=r"8 images are too few .* 8 features: at least 9.*160"):
            frechet_distance(*pair)
    assert frechet_distance(a, b, allow_small=True) > 0
    with pytest.raises(ConfigError, match="at least 2"):
        frechet_distance(a[:1], b, allow_small=True)
    with pytest.raises(ShapeError, match=r"\(n, dim\)"):
        frechet_distance(a, b[:, :3])


def test_features_see_signals_rounded_to_8_bits() -> None:
    signals = torch.rand(6, 2, 4, 4, generator=torch.Generator().manual_seed(0)) * 2.4 - 1.2
    table = feature_table(Means(), signals.split(4))
    rounded = ((signals.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
    assert (table.shape, table.dtype) == ((6, 2), torch.float64)
    torch.testing.assert_close(table, rounded.mean(dim=(2, 3)).double())
    assert not torch.allclose(table, signals.clamp(-1, 1).mean(dim=(2, 3)).double(), atol=1e-6)
    with pytest.raises(ConfigError, match="no images"):
        feature_table(Means(), [])


def test_features_that_are_not_finite_are_refused() -> None:
    class Broken(Means):
        def forward(self, signals: Tensor) -> Tensor:
            return super().forward(signals) / 0

    with pytest.raises(NonFiniteError, match="'means'"):
        feature_table(Broken(), [torch.ones(1, 2, 4, 4)])


def test_only_the_official_features_are_called_fid() -> None:
    assert frechet_label(Official()) == "FID"
    assert frechet_label(Means()) == "FD[means]"


def test_a_key_tells_weights_reference_sizes_and_sampler_apart() -> None:
    given = ("ref", (100, 100), {"temperature": "1.0"})
    key = frechet_key(Means(), *given)
    assert key == frechet_key(Means(), *given)
    other = Means()
    other.weights_hash = "01"
    changed = [
        frechet_key(other, *given),
        frechet_key(Means(), "other", *given[1:]),
        frechet_key(Means(), "ref", (100, 101), given[2]),
        frechet_key(Means(), "ref", (101, 100), given[2]),
        frechet_key(Means(), "ref", (100, 100), {"temperature": "0.9"}),
    ]
    assert len({key, *changed}) == 6
