"""Rule: what a source says of its codes is a distribution, the same by every way to ask, and what it draws from."""

import itertools
from collections.abc import Callable

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from dvgen.errors import ShapeError
from dvgen.interfaces.codes import MASKED, Codes
from dvgen_truth.markov import MarkovRaster
from dvgen_truth.noisy_copy import NoisyCopy
from dvgen_truth.potts import Potts
from dvgen_truth.quadtree import QuadTree
from dvgen_truth.sequential import Sequential
from dvgen_truth.top_bottom import TopBottom


def top_bottom(top: Sequential, **fields: object) -> TopBottom:
    return TopBottom(TopBottom.Config(**fields), top=lambda: top)


TINY: dict[str, Callable[[], Sequential]] = {
    "markov": lambda: MarkovRaster(MarkovRaster.Config(grid=(2, 3), num_codes=3)),
    "markov in one line": lambda: MarkovRaster(MarkovRaster.Config(grid=(5,), num_codes=2, concentration=1.0, seed=7)),
    "markov of one place": lambda: MarkovRaster(MarkovRaster.Config(grid=(1,), num_codes=4)),
    "noisy copy": lambda: NoisyCopy(NoisyCopy.Config(grid=(2, 3), num_codes=3, noise=0.3)),
    "potts": lambda: Potts(Potts.Config(rows=2, columns=4, num_codes=2, coupling=0.7)),
    "potts in a field": lambda: Potts(Potts.Config(rows=3, columns=2, num_codes=3, coupling=-0.5, field=0.4)),
    "potts of one column": lambda: Potts(Potts.Config(rows=5, columns=1, num_codes=3, coupling=0.9)),
    "quadtree": lambda: QuadTree(QuadTree.Config(depth=1, num_codes=4, noise=0.35)),
    "top and bottom": lambda: top_bottom(
        Potts(Potts.Config(rows=1, columns=2, num_codes=3, field=0.5)), num_codes=2, scale=2, concentration=1.0
    ),
    "top and bottom in a line": lambda: top_bottom(
        MarkovRaster(MarkovRaster.Config(grid=(2,), num_codes=2)), num_codes=3, scale=2, concentration=1.0
    ),
}

tiny = pytest.mark.parametrize("make", TINY.values(), ids=TINY.keys())

DEFAULT: dict[str, Callable[[], Sequential]] = {
    "markov": lambda: MarkovRaster(MarkovRaster.Config()),
    "noisy copy": lambda: NoisyCopy(NoisyCopy.Config()),
    "potts": lambda: Potts(Potts.Config(field=0.05)),
    "quadtree": lambda: QuadTree(QuadTree.Config()),
    "top and bottom": lambda: top_bottom(MarkovRaster(MarkovRaster.Config(grid=(4, 4)))),
}


def every_draw(source: Sequential) -> tuple[Tensor, Codes]:
    """All draws, as rows (n, places of all levels), and as codes a level."""
    ranges = [range(level.num_codes) for level in source.levels for _ in range(level.length)]
    table = torch.tensor(list(itertools.product(*ranges)))
    parts = table.split([level.length for level in source.levels], dim=1)
    return table, tuple(part.unflatten(1, level.grid) for part, level in zip(parts, source.levels, strict=True))


@tiny
def test_probabilities_of_all_draws_sum_to_1(make: Callable[[], Sequential]) -> None:
    source = make()
    assert float(source.log_prob(every_draw(source)[1]).exp().sum()) == pytest.approx(1, abs=1e-10)


def test_probabilities_of_all_65536_draws_of_a_deeper_tree_sum_to_1() -> None:
    source = QuadTree(QuadTree.Config(depth=2, num_codes=2, noise=0.2))
    digits = torch.arange(2**16).unsqueeze(1) >> torch.arange(16) & 1
    assert float(source.log_prob((digits.unflatten(1, (4, 4)),)).exp().sum()) == pytest.approx(1, abs=1e-10)


@tiny
def test_the_entropy_is_the_sum_over_all_draws(make: Callable[[], Sequential]) -> None:
    source = make()
    logs = source.log_prob(every_draw(source)[1])
    if isinstance(source, QuadTree):
        assert source.entropy is None
    else:
        assert source.entropy == pytest.approx(-float((logs.exp() * logs).sum()), abs=1e-10)


@tiny
def test_conditional_probabilities_are_quotients_of_sums_over_what_follows(make: Callable[[], Sequential]) -> None:
    """p(code | codes before) is the share of all draws that begin so, for every beginning."""
    source = make()
    table, codes = every_draw(source)
    sizes = [level.num_codes for level in source.levels for _ in range(level.length)]
    probabilities = source.log_prob(codes).exp().reshape(sizes)
    found = [source.conditionals(i, code, codes[:i]).flatten(1, -2) for i, code in enumerate(codes)]
    places = [part[:, place] for part in found for place in range(part.shape[1])]
    for place, conditional in enumerate(places):
        joint = probabilities.sum(dim=tuple(range(place + 1, len(sizes)))) if place + 1 < len(sizes) else probabilities
        expected = joint / joint.sum(dim=-1, keepdim=True)
        torch.testing.assert_close(conditional.exp(), expected[tuple(table[:, :place].T)].expand_as(conditional))
        torch.testing.assert_close(conditional.exp().sum(dim=-1), torch.ones(len(table), dtype=torch.float64))


@tiny
def test_what_is_not_yet_drawn_changes_no_conditional_probability(make: Callable[[], Sequential]) -> None:
    source = make()
    coarser: Codes = ()
    for i, (level, code) in enumerate(zip(source.levels, source.sample(3, 0), strict=True)):
        past = code.flatten(1)
        for place in range(level.length):
            later = past.clone()
            later[:, place:] = (later[:, place:] + 1) % level.num_codes
            before = source.conditional(i, place, past, coarser)
            assert torch.equal(before, source.conditional(i, place, later, coarser))
        coarser = (*coarser, code)


@tiny
def test_conditional_probabilities_multiply_to_that_of_the_whole(make: Callable[[], Sequential]) -> None:
    source = make()
    codes = source.sample(50, 3)
    logs = [source.conditionals(i, code, codes[:i]) for i, code in enumerate(codes)]
    total = sum(log.gather(-1, code.unsqueeze(-1)).flatten(1).sum(dim=1) for log, code in zip(logs, codes, strict=True))
    torch.testing.assert_close(total, source.log_prob(codes), rtol=0, atol=1e-10)


@tiny
def test_draws_are_as_frequent_as_they_are_probable(make: Callable[[], Sequential]) -> None:
    """Chi-square of 20000 draws; draws that are expected less than five times share a cell."""
    source = make()
    table, codes = every_draw(source)
    expected = source.log_prob(codes).exp() * 20000
    found = torch.cat([code.flatten(1) for code in source.sample(20000, 11)], dim=1)
    radix = torch.tensor([level.num_codes for level in source.levels for _ in range(level.length)])
    weights = radix.flip(0).cumprod(0).flip(0) // radix
    counts = torch.bincount(found @ weights, minlength=len(table)).double()
    rare = expected < 5
    cells = [torch.cat([values[~rare], values[rare].sum().reshape(1)]) for values in (counts, expected)]
    used = cells[1] > 0
    statistic = float(((cells[0] - cells[1]).square()[used] / cells[1][used]).sum())
    assert float(chi2.sf(statistic, int(used.sum()) - 1)) > 1e-4


@pytest.mark.parametrize("make", DEFAULT.values(), ids=DEFAULT.keys())
def test_the_entropy_is_the_mean_of_what_draws_cost(make: Callable[[], Sequential]) -> None:
    source = make()
    costs = -source.log_prob(source.sample(2000, 5))
    assert bool(costs.isfinite().all())
    if source.entropy is not None:
        assert abs(float(costs.mean()) - source.entropy) < 4 * float(costs.std()) / 2000**0.5


def test_a_deep_tree_and_a_long_cold_field_do_not_underflow() -> None:
    tree = QuadTree(QuadTree.Config(depth=6, num_codes=16, noise=0.01))
    assert bool(tree.log_prob(tree.sample(2, 0)).isfinite().all())
    field = Potts(Potts.Config(rows=100, columns=6, coupling=5.0, field=-5.0))
    draws = field.sample(2, 0)
    assert bool(field.log_prob(draws).isfinite().all())
    assert bool(field.conditionals(0, draws[0]).exp().sum(dim=-1).isclose(torch.tensor(1.0).double()).all())


@pytest.mark.parametrize("make", DEFAULT.values(), ids=DEFAULT.keys())
def test_draws_are_a_function_of_number_and_seed_alone(make: Callable[[], Sequential]) -> None:
    torch.manual_seed(1)
    first = make().sample(1030, 9)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    source = make()
    again, fewer, other = source.sample(1030, 9), source.sample(4, 9), source.sample(4, 10)
    assert torch.equal(torch.get_rng_state(), state)
    for one, two, few, another, level in zip(first, again, fewer, other, source.levels, strict=True):
        assert one.dtype == torch.int64
        assert tuple(one.shape) == (1030, *level.grid)
        assert torch.equal(one, two)
        assert torch.equal(one[:4], few)
        assert not torch.equal(few, another)
        assert bool(((one >= 0) & (one < level.num_codes)).all())


def test_there_may_be_no_draws() -> None:
    for make in DEFAULT.values():
        source = make()
        codes = source.sample(0, 0)
        assert [tuple(code.shape) for code in codes] == [(0, *level.grid) for level in source.levels]
        assert tuple(source.log_prob(codes).shape) == (0,)


FIRST = {
    "markov": [10, 7, 2, 5, 9, 5, 9, 15, 11, 8, 3, 15],
    "noisy copy": [15, 9, 3, 4, 6, 2, 0, 8, 4, 7, 0, 9],
    "potts": [1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1],
    "quadtree": [0, 9, 0, 0, 0, 2, 10, 10, 4, 0, 6, 11],
    "top and bottom": [5, 0, 12, 4, 0, 0, 15, 8, 12, 5, 15, 3],
}
"""The last codes of the first draw of seed 0."""


@pytest.mark.parametrize("name", DEFAULT)
def test_draws_are_those_of_this_version(name: str) -> None:
    """Whoever changes these numbers raises `version` of the source: results of both must not be compared."""
    source = DEFAULT[name]()
    assert source.version == 1
    assert source.sample(1, 0)[-1].flatten()[-12:].tolist() == FIRST[name]


def test_sizes_are_those_of_the_config() -> None:
    assert MarkovRaster(MarkovRaster.Config()).sizes == {"train": 8000, "validation": 1000, "test": 2000}
    assert QuadTree(QuadTree.Config(train=5, validation=6, test=7)).sizes == {"train": 5, "validation": 6, "test": 7}


@tiny
def test_only_whole_draws_have_a_probability(make: Callable[[], Sequential]) -> None:
    source = make()
    codes = source.sample(3, 0)
    for i in range(len(codes)):
        masked = codes[i].clone()
        masked.view(-1)[0] = MASKED
        with pytest.raises(ShapeError, match="masked"):
            source.log_prob((*codes[:i], masked, *codes[i + 1 :]))
    with pytest.raises(ShapeError):
        source.log_prob(tuple(code[..., :-1] for code in codes))
    with pytest.raises(ShapeError):
        source.log_prob(tuple(code + 9 for code in codes))
    if len(codes) > 1:
        with pytest.raises(ShapeError, match="as many draws"):
            source.log_prob((codes[0][:1], *codes[1:]))
