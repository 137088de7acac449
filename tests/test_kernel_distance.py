"""The kernel distance is the unbiased estimate over all pairs, a pure function of two tables of features."""

import itertools
import warnings

import pytest
import torch
from torch import Tensor, nn

from dvgen.errors import ConfigError, ShapeError
from dvgen.evaluation import kernel_distance as module
from dvgen.evaluation.frechet import frechet_key
from dvgen.evaluation.kernel_distance import kernel_distance, kernel_key, kernel_label
from dvgen.interfaces.features import Features


class Named(Features):
    """Features that are only asked for their name."""

    dim = 4
    label = "named:v1"
    weights_hash = "ab" * 32

    def forward(self, signals: Tensor) -> Tensor:
        raise NotImplementedError


class Official(Named):
    """Features that say that they are those of FID."""

    official = True


def table(n: int, dim: int = 4, *, seed: int = 0, shift: float = 0.0) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def kernel(x: list[float], y: list[float]) -> float:
    return (sum(i * j for i, j in zip(x, y, strict=True)) / len(x) + 1) ** 3


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def by_pairs(a: Tensor, b: Tensor) -> float:
    """Binkowski et al. 2018, pair by pair."""
    x, y = a.tolist(), b.tolist()
    within = [mean([kernel(i, j) for i, j in itertools.permutations(rows, 2)]) for rows in (x, y)]
    return sum(within) - 2 * mean([kernel(i, j) for i, j in itertools.product(x, y)])


@pytest.mark.parametrize(("n", "m", "dim"), [(2, 2, 1), (7, 5, 4), (9, 23, 3)])
def test_it_is_the_mean_over_all_pairs(n: int, m: int, dim: int) -> None:
    a, b = table(n, dim), table(m, dim, seed=1, shift=0.5)
    assert kernel_distance(a, b) == pytest.approx(by_pairs(a, b), rel=1e-12, abs=1e-12)
    assert kernel_distance(a.float(), b) == pytest.approx(by_pairs(a.float().double(), b), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("pairs", [1, 23, 60, 10**9])
def test_blocks_do_not_show(pairs: int) -> None:
    a, b = table(19), table(23, seed=1, shift=0.3)
    assert kernel_distance(a, b, pairs=pairs) == pytest.approx(by_pairs(a, b), rel=1e-12)


def test_memory_is_bounded_by_the_size_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def seen(products: Tensor, dim: int) -> Tensor:
        sizes.append(products.numel())
        return (products / dim + 1) ** 3

    monkeypatch.setattr(module, "_kernel", seen)
    kernel_distance(table(190), table(230, seed=1), pairs=1000)
    assert max(sizes) <= 1000
    assert sum(sizes) == 190**2 + 190 + 230**2 + 230 + 190 * 230


def test_it_is_torchmetrics_kid_of_one_subset_with_every_row() -> None:
    class Passed(nn.Module):
        num_features = 6

        def forward(self, features: Tensor) -> Tensor:
            return features

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that it keeps features in memory
        from torchmetrics.image.kid import KernelInceptionDistance

        oracle = KernelInceptionDistance(feature=Passed(), subsets=1, subset_size=40, normalize=True)
    a, b = table(40, 6), table(40, 6, seed=1, shift=0.2)
    oracle.update(a, real=True)
    oracle.update(b, real=False)
    assert kernel_distance(a, b) == pytest.approx(oracle.compute()[0].item(), rel=1e-6)


def test_it_has_no_bias_and_may_be_negative() -> None:
    """Over 400 pairs of sets of one distribution the mean is within four standard errors of 0, and signs are mixed.

    The biased estimate, which counts pairs of a row with itself, is positive for every one.
    """
    found = torch.tensor([kernel_distance(table(6, seed=2 * i), table(9, seed=2 * i + 1)) for i in range(400)])
    assert abs(found.mean()) < 4 * found.std() / 20
    assert 0.2 < (found < 0).float().mean() < 0.8


def test_its_expectation_is_the_known_one_for_a_shifted_normal() -> None:
    """One dimension, N(0, 1) against N(s, 1): MMD^2 is the sum over moments 3 s^2 + 3 (E x^2 - E y^2)^2 + (E x^3 - E y^3)^2."""
    shift = 0.8
    moments = [(0.0, shift), (1.0, 1 + shift**2), (0.0, 3 * shift + shift**3)]
    expected = sum(weight * (x - y) ** 2 for weight, (x, y) in zip((3, 3, 1), moments, strict=True))
    found = torch.tensor([kernel_distance(table(80, 1, seed=2 * i), table(80, 1, seed=2 * i + 1) + shift) for i in range(200)])
    assert abs(found.mean() - expected) < 4 * found.std() / 200**0.5
    assert found.std() / 200**0.5 < 0.1 * expected


def test_it_is_symmetric_and_grows_with_the_shift() -> None:
    a, b = table(50), table(60, seed=1)
    found = [kernel_distance(a, b + shift) for shift in (0.0, 0.3, 0.6, 1.2)]
    assert found == sorted(found)
    assert kernel_distance(b, a) == pytest.approx(found[0], abs=1e-12)


def test_tables_that_do_not_fit_or_have_no_pair_are_refused() -> None:
    for a, b in ((table(3, 4), table(3, 5)), (torch.zeros(3), torch.zeros(3)), (table(3), torch.zeros(3, 4, 1))):
        with pytest.raises(ShapeError, match="feature tables"):
            kernel_distance(a, b)
    for n, m in ((1, 5), (5, 1), (0, 5)):
        with pytest.raises(ConfigError, match=f"at least 2 signals, got {n} and {m}; raise"):
            kernel_distance(table(n), table(m))


def test_the_name_kid_is_kept_for_the_official_features() -> None:
    assert kernel_label(Named()) == "KD[named:v1]"
    assert kernel_label(Official()) == "KID"


def test_the_key_tells_what_frechets_tells_but_for_the_estimator() -> None:
    arguments = (Named(), "reference", (9, 8), {"temperature": "1.0"})
    key, frechet = kernel_key(*arguments, bits=16), frechet_key(*arguments, bits=16)
    assert key.metric == "KD[named:v1]"
    assert sorted(text.partition(":")[0] for text in key.differences(frechet)) == ["metric", "protocol estimator"]
