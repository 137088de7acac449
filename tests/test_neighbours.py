"""Precision, recall, density and coverage are what their papers define, and have their known values for equal distributions."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from dvgen.errors import ConfigError, ShapeError
from dvgen.evaluation.neighbours import neighbours


def table(n: int, dim: int = 3, *, seed: int = 0, shift: float = 0.0) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def whole_numbers(n: int, seed: int, high: int = 3) -> Tensor:
    """Many distances tie, and with few numbers many rows are equal."""
    return torch.randint(high, (n, 2), generator=torch.Generator().manual_seed(seed)).double()


def radius(rows: list[np.ndarray], i: int, k: int) -> float:
    """Distance of row i to its k-th nearest other row."""
    return sorted(math.dist(rows[i], other) for j, other in enumerate(rows) if j != i)[k - 1]


def by_pairs(reference: Tensor, measured: Tensor) -> list[float]:
    """All four, pair by pair."""
    x, y = list(reference.numpy()), list(measured.numpy())
    small, large = ([radius(x, i, k) for i in range(len(x))] for k in (3, 5))
    theirs = [radius(y, j, 3) for j in range(len(y))]
    precision = np.mean([any(math.dist(a, b) <= r for a, r in zip(x, small, strict=True)) for b in y])
    recall = np.mean([any(math.dist(a, b) <= r for b, r in zip(y, theirs, strict=True)) for a in x])
    density = np.mean([sum(math.dist(a, b) < r for a, r in zip(x, large, strict=True)) / 5 for b in y])
    coverage = np.mean([any(math.dist(a, b) < r for b in y) for a, r in zip(x, large, strict=True)])
    return [float(value) for value in (precision, recall, density, coverage)]


@pytest.mark.parametrize("pairs", [1, 40, 10**6])
@pytest.mark.parametrize(
    ("reference", "measured"),
    [
        (table(14), table(9, seed=1, shift=0.7)),
        (table(6), table(21, seed=1)),
        (whole_numbers(16, 0), whole_numbers(13, 1)),
        (whole_numbers(12, 4, 7), whole_numbers(12, 5, 7)),
    ],
)
def test_they_are_the_definitions_pair_by_pair(reference: Tensor, measured: Tensor, pairs: int) -> None:
    """Whole numbers tell <= from <; the size of a block does not show."""
    assert list(neighbours(reference, measured, pairs=pairs)) == pytest.approx(by_pairs(reference, measured), abs=1e-12)


def test_a_set_covers_itself_and_a_far_one_not_at_all() -> None:
    same = table(40)
    assert neighbours(same, same.clone()) == pytest.approx((1, 1, 1, 1))
    assert neighbours(same, same + 1000) == (0, 0, 0, 0)


def test_one_mode_of_two_keeps_precision_and_halves_recall_and_coverage() -> None:
    modes = torch.cat([table(200), table(200, seed=1) + 1000])
    found = neighbours(modes, table(400, seed=2))
    assert found.precision > 0.75
    assert 0.3 < found.recall <= 0.5
    assert 0.45 < found.coverage <= 0.5
    assert neighbours(modes, torch.full((400, 3), 500.0) + table(400)).precision == 0


def test_equal_distributions_have_the_known_density_and_coverage() -> None:
    """Density 1, coverage 1 - prod_j (n - 1 - j) / (n + m - 1 - j) over j < 5; precision and recall stay below 1."""
    n, m, draws = 300, 225, 60
    expected = 1 - math.prod((n - 1 - j) / (n + m - 1 - j) for j in range(5))
    found = torch.tensor([neighbours(table(n, 4, seed=2 * i), table(m, 4, seed=2 * i + 1)) for i in range(draws)])
    precision, recall, density, coverage = found.double().mean(dim=0).tolist()
    assert density == pytest.approx(1, abs=0.05)
    assert coverage == pytest.approx(expected, abs=0.01)
    assert 0.6 < precision < 0.99
    assert 0.6 < recall < 0.99


def test_a_common_shift_and_float32_change_nothing() -> None:
    a, b = whole_numbers(20, 0), whole_numbers(25, 1)
    assert neighbours(a + 2.0**20, b + 2.0**20) == neighbours(a, b) == neighbours(a.float(), b.float())


def test_tables_that_do_not_fit_or_are_too_small_are_refused() -> None:
    with pytest.raises(ShapeError, match="one width"):
        neighbours(table(9, 3), table(9, 4))
    with pytest.raises(ConfigError, match=r"more than 5 signals, got 5 and 9; raise"):
        neighbours(table(5), table(9))
