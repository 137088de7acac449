"""Intervals cover what they promise to cover."""

import numpy as np
import pytest
from scipy import stats

from dvgen.errors import ShapeError
from dvgen.evaluation.statistics import mean_interval, seeds_interval


def test_the_interval_of_a_mean_is_scipys() -> None:
    values = np.random.default_rng(0).normal(size=7)
    mean, interval = mean_interval(values)
    assert mean == pytest.approx(values.mean())
    assert interval == pytest.approx(stats.t.interval(0.95, 6, values.mean(), stats.sem(values)))


def test_one_item_has_a_mean_and_no_interval() -> None:
    assert mean_interval([3.0]) == (3.0, None)
    with pytest.raises(ShapeError, match="at least one"):
        mean_interval([])


def test_a_mean_of_five_items_is_covered_in_95_percent_of_draws() -> None:
    rng = np.random.default_rng(1)
    intervals = [mean_interval(row)[1] for row in rng.normal(2.0, 1.0, size=(2000, 5))]
    covered = np.mean([low <= 2.0 <= high for low, high in filter(None, intervals)])
    assert covered == pytest.approx(0.95, abs=0.02)


def coverage(seed_noise: float, image_noise: float) -> float:
    """How often the interval of 3 seeds on the same 50 images covers the true mean; image noise is shared by the seeds."""
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(2000):
        seeds, images = rng.normal(0, seed_noise, (3, 1)), rng.normal(0, image_noise, (1, 50))
        _, (low, high) = seeds_interval(list(5 + seeds + images + rng.normal(0, 0.01, (3, 50))))
        covered.append(low <= 5 <= high)
    return float(np.mean(covered))


def test_three_seeds_cover_the_mean_in_95_percent_of_draws() -> None:
    """A bootstrap over three seeds covers about 73 %."""
    assert coverage(seed_noise=0.3, image_noise=0.1) == pytest.approx(0.95, abs=0.015)


def test_noise_of_images_is_covered_too() -> None:
    """With few degrees of freedom for both sources the interval is too wide here, never too narrow."""
    assert coverage(seed_noise=0.01, image_noise=1.0) > 0.95
    assert coverage(seed_noise=0.1, image_noise=1.0) > 0.95


def test_the_error_of_seeds_is_the_sum_of_both_variances() -> None:
    table = np.array([[1.0, 2.0, 4.0], [2.0, 2.0, 5.0]])
    mean, (low, high) = seeds_interval(list(table))
    seed_means, image_means = np.array([7 / 3, 3.0]), np.array([1.5, 2.0, 4.5])
    error = np.sqrt(seed_means.var(ddof=1) / 2 + image_means.var(ddof=1) / 3)
    assert mean == pytest.approx(16 / 6)
    assert high - mean == pytest.approx(mean - low) == pytest.approx(12.7062047 * error)


@pytest.mark.parametrize("rows", [[[1.0, 2.0]], [[1.0, 2.0], [1.0]], [[1.0], [2.0]], [1.0, 2.0], []])
def test_seeds_without_two_rows_of_the_same_images_are_refused(rows: list[list[float]]) -> None:
    with pytest.raises(ShapeError, match="two or more seeds"):
        seeds_interval(rows)
