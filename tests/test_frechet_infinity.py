"""The Frechet distance grows as sets shrink; the limit for endless sets does not."""

import pytest
import torch
from torch import Tensor

from dvgen.evaluation.frechet import _at_infinity, frechet_distance, frechet_infinity

DIM = 8
SPECTRUM = torch.arange(1, DIM + 1, dtype=torch.float64) ** -0.5


def gaussians(n: int, seed: int, scale: float = 1.0) -> Tensor:
    """Rows of variances 1/k, all scaled: their true distance to those of scale 1 is (scale - 1)^2 sum 1/k."""
    return torch.randn(n, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * SPECTRUM * scale


def true_distance(scale: float) -> float:
    return (scale - 1) ** 2 * float(SPECTRUM.square().sum())


def test_a_straight_line_is_found_exactly() -> None:
    """Value = 3 + 40 / n at any sizes."""
    sizes = [10, 25, 70, 100]
    assert _at_infinity(sizes, [3 + 40 / n for n in sizes]) == pytest.approx(3, abs=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1.2])
def test_the_bias_falls_with_n_and_is_gone_at_infinity(scale: float) -> None:
    """Over 20 draws: the mean distance is too high by less and less, and the limit takes off more than half of what is left.

    Not all of it: 1/n is the first term of the bias, the next is a tenth of it here, and the draws are few.
    """
    draws = [(gaussians(400, 2 * i), gaussians(400, 2 * i + 1, scale)) for i in range(20)]
    bias = [sum(frechet_distance(a[:n], b[:n]) for a, b in draws) / 20 - true_distance(scale) for n in (50, 100, 200, 400)]
    assert bias == sorted(bias, reverse=True)
    # half the rows, twice the bias, about
    assert 1.5 < bias[0] / bias[1] < 3
    found = [frechet_infinity(a, b) or 0 for a, b in draws]
    assert abs(sum(found) / 20 - true_distance(scale)) < bias[-1] / 2


def test_it_is_a_function_of_the_tables() -> None:
    a, b = gaussians(200, 0), gaussians(230, 1, 1.3)
    state = torch.get_rng_state()
    assert frechet_infinity(a, b) == frechet_infinity(a, b)
    assert torch.equal(state, torch.get_rng_state())


def test_few_rows_have_no_limit() -> None:
    """Five rows a feature are the least, in both sets."""
    assert frechet_infinity(gaussians(5 * DIM - 1, 0), gaussians(500, 1)) is None
    assert frechet_infinity(gaussians(500, 0), gaussians(5 * DIM - 1, 1)) is None
    assert frechet_infinity(gaussians(5 * DIM, 0), gaussians(5 * DIM, 1)) is not None
