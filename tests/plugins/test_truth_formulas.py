"""Rule: the probability of every source is that of its formula, here written out one draw and one code at a time."""

import itertools
import math

import pytest
import torch

from dvgen.errors import ConfigError
from dvgen_truth.markov import MarkovRaster, stationary
from dvgen_truth.noisy_copy import NoisyCopy
from dvgen_truth.potts import Potts
from dvgen_truth.quadtree import QuadTree
from dvgen_truth.top_bottom import TopBottom


def test_a_markov_chain_is_its_product_and_stays_in_its_stationary_distribution() -> None:
    source = MarkovRaster(MarkovRaster.Config(grid=(2, 3), num_codes=3))
    first, transitions = source.first.exp(), source.transitions.exp()
    torch.testing.assert_close(transitions.sum(dim=1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(first @ transitions, first, rtol=1e-12, atol=0)
    (codes,) = source.sample(20, 0)
    for row, found in zip(codes.flatten(1).tolist(), source.log_prob((codes,)).tolist(), strict=True):
        expected = float(first[row[0]])
        for before, code in itertools.pairwise(row):
            expected *= float(transitions[before, code])
        assert found == pytest.approx(math.log(expected), abs=1e-12)


def test_a_chain_that_hardly_moves_has_an_exact_stationary_distribution() -> None:
    """Of two states the shares are as the chances to come: a difference would lose all digits of the smaller."""
    matrix = torch.tensor([[1 - 1e-30, 1e-30], [0.5, 0.5]], dtype=torch.float64).numpy()
    assert stationary(matrix)[1] == pytest.approx(2e-30, rel=1e-12)


def test_a_noisy_copy_is_its_formula() -> None:
    source = NoisyCopy(NoisyCopy.Config(grid=(2, 3), num_codes=3, noise=0.3))
    assert sorted(source.order) == [0, 1, 2]
    (codes,) = source.sample(50, 0)
    for row, found in zip(codes.flatten(1).tolist(), source.log_prob((codes,)).tolist(), strict=True):
        errors = sum(row[3 + i] != row[place] for i, place in enumerate(source.order))
        assert found == pytest.approx(errors * math.log(0.1) + (3 - errors) * math.log(0.8) - 3 * math.log(3), abs=1e-12)


@pytest.mark.parametrize(
    "config",
    [
        Potts.Config(rows=2, columns=4, num_codes=2, coupling=0.7),
        Potts.Config(rows=3, columns=2, num_codes=3, coupling=-0.5, field=0.4),
        Potts.Config(rows=5, columns=1, num_codes=3, coupling=0.9),
        Potts.Config(rows=1, columns=5, num_codes=3, coupling=0.9),
    ],
)
def test_a_potts_field_is_boltzmanns_distribution(config: Potts.Config) -> None:
    source = Potts(config)
    (height, width), weights = source.levels[0].grid, []
    maps = itertools.product(range(config.num_codes), repeat=height * width)
    codes = torch.tensor(list(maps)).unflatten(1, (height, width))
    for x in codes.tolist():
        right = sum(x[i][j] == x[i][j + 1] for i in range(height) for j in range(width - 1))
        down = sum(x[i][j] == x[i + 1][j] for i in range(height - 1) for j in range(width))
        zeros = sum(x[i][j] == 0 for i in range(height) for j in range(width))
        weights.append(math.exp(config.coupling * (right + down) + config.field * zeros))
    expected = torch.tensor(weights, dtype=torch.float64)
    torch.testing.assert_close(source.log_prob((codes,)), (expected / expected.sum()).log(), rtol=0, atol=1e-12)


def test_a_quadtree_is_the_sum_over_all_that_its_inner_nodes_can_be() -> None:
    """Depth 2 of two codes: 32 states of the root and its four children, for each of 20 maps."""
    noise = 0.3
    source = QuadTree(QuadTree.Config(depth=2, num_codes=2, noise=noise))
    (codes,) = source.sample(20, 0)

    def step(parent: int, child: int) -> float:
        return (1 - noise) * (parent == child) + noise / 2

    for x, found in zip(codes.tolist(), source.log_prob((codes,)).tolist(), strict=True):
        total = 0.0
        for root, *children in itertools.product(range(2), repeat=5):
            term = 0.5 * math.prod(step(root, child) for child in children)
            term *= math.prod(step(children[2 * (i // 2) + j // 2], x[i][j]) for i in range(4) for j in range(4))
            total += term
        assert found == pytest.approx(math.log(total), abs=1e-12)


def test_codes_of_the_bottom_are_independent_given_their_own_top() -> None:
    top = Potts(Potts.Config(rows=1, columns=2, num_codes=3, field=0.5))
    source = TopBottom(TopBottom.Config(num_codes=2, scale=2, concentration=1.0), top=lambda: top)
    assert [(level.name, level.grid) for level in source.levels] == [("top", (1, 2)), ("bottom", (2, 4))]
    channel = source.channel.exp()
    assert all(sorted(row) == sorted(channel[0].tolist()) for row in channel[:-1].tolist())
    torch.testing.assert_close(channel[-1], channel[:-1].mean(dim=0))
    codes = source.sample(30, 0)
    for x, y, found in zip(codes[0].tolist(), codes[1].tolist(), source.log_prob(codes).tolist(), strict=True):
        chances = [float(channel[x[i // 2][j // 2], y[i][j]]) for i in range(2) for j in range(4)]
        above = float(top.log_prob((torch.tensor([x]),)))
        assert found == pytest.approx(above + math.log(math.prod(chances)), abs=1e-12)


def test_known_entropies() -> None:
    """Noisy copies of 64 codes, and the quadtree of 16 x 16 by Monte Carlo, against an implementation written before this one.

    It gave 312.86, and 269.64 with a deviation of 0.20.
    """
    assert NoisyCopy(NoisyCopy.Config(grid=(128,), num_codes=64, noise=0.1)).entropy == pytest.approx(312.86, abs=0.01)
    tree = QuadTree(QuadTree.Config(depth=4, num_codes=16, noise=0.15))
    costs = -tree.log_prob(tree.sample(1000, 1))
    assert abs(float(costs.mean()) - 269.64) < 4 * math.hypot(0.20, float(costs.std()) / 1000**0.5)


def test_an_odd_number_of_places_has_no_halves() -> None:
    with pytest.raises(ConfigError, match=r"noisy-copy: .*even.*\(3, 3\)"):
        NoisyCopy(NoisyCopy.Config(grid=(3, 3)))


def test_a_field_that_is_too_wide_is_refused_before_its_table_is_made() -> None:
    with pytest.raises(ConfigError, match=r"at most 1024, got 2\^60; take fewer columns"):
        Potts(Potts.Config(columns=60))
    Potts(Potts.Config(rows=2, columns=5, num_codes=4))


def test_a_top_of_two_levels_is_refused() -> None:
    def chain() -> MarkovRaster:
        return MarkovRaster(MarkovRaster.Config(grid=(2,)))

    with pytest.raises(ConfigError, match="top-bottom: top must be a source of one level"):
        TopBottom(TopBottom.Config(), top=lambda: TopBottom(TopBottom.Config(), top=chain))
