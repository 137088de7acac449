"""Priors that count are normalised, and right on examples small enough to count by hand."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dvgen.evaluation.baselines import ladder
from dvgen.evaluation.counting import NEIGHBOURS, POSITION, Conditional, Unigram
from dvgen.interfaces.codes import Level


def markov(n: int, grid: tuple[int, ...], num_codes: int, seed: int = 0) -> Tensor:
    """Each code equals its left neighbour plus 0 or 1 (mod num_codes); rows start uniformly."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(0, 2, size=(n, *grid))
    steps[..., 0] = rng.integers(0, num_codes, size=(n, *grid[:-1]))
    return torch.from_numpy(steps.cumsum(axis=-1) % num_codes)


def left_up(codes: Tensor, num_codes: int) -> Conditional:
    return Conditional.fit(codes, num_codes, ("left", "up"))


@settings(max_examples=20, deadline=None)
@given(
    num_codes=st.integers(1, 3),
    n=st.integers(1, 30),
    seed=st.integers(0, 1000),
    grid=st.sampled_from([(5,), (3, 2), (1, 1)]),
    names=st.sampled_from([("left",), ("left", "up"), tuple(NEIGHBOURS)]),
)
def test_probabilities_of_every_context_add_up_to_one(
    num_codes: int, n: int, seed: int, grid: tuple[int, ...], names: tuple[str, ...]
) -> None:
    """Contexts never seen in training and borders included."""
    generator = torch.Generator().manual_seed(seed)
    prior = Conditional.fit(torch.randint(num_codes, (n, *grid), generator=generator), num_codes, names)
    columns = list(np.array(list(itertools.product(range(num_codes + 1), repeat=len(names)))).T)
    base = max(num_codes + 1, math.prod(grid))
    total = sum(prior.probability(columns, np.full(len(columns[0]), code), base) for code in range(num_codes))
    np.testing.assert_allclose(total, 1, atol=1e-12)


def test_a_unigram_is_counts_plus_one_half() -> None:
    prior = Unigram.fit(torch.tensor([[0, 0, 1], [0, 1, 0]]), 3)
    expected = -math.log(4.5 / 7.5) - math.log(2.5 / 7.5) - math.log(0.5 / 7.5)
    assert prior.nats(torch.tensor([[0, 1, 2]])) == pytest.approx([expected])


def test_neighbours_are_counted_and_discounted_as_by_hand() -> None:
    """Two codes, one 2x2 image twice: contexts, counts and every discount written out. `2` is the border."""
    prior = left_up(torch.tensor([[[0, 1], [1, 1]], [[0, 1], [1, 0]]]), 2)
    # (left, up) -> codes: (2,2): 0 0; (0,2): 1 1; (2,0): 1 1; (1,1): 1 0. Pairs seen once: 2, twice: 3.
    d_both = 2 / (2 + 2 * 3)
    # left alone: 2 -> 0 0 1 1; 0 -> 1 1; 1 -> 1 0: once 2, twice 3. Up alone is the same by symmetry.
    d_one = 2 / (2 + 2 * 3)
    # codes alone: 0 three times, 1 five times: no code once or twice, so the least discount
    d_alone = 0.05

    def alone(code: int) -> float:
        return ([3, 5][code] - d_alone) / 8 + d_alone * 2 / 8 * 0.5

    def one(context: int, code: int) -> float:
        counts = {2: [2, 2], 0: [0, 2], 1: [1, 1]}[context]
        kinds = sum(c > 0 for c in counts)
        return (max(counts[code] - d_one, 0) + d_one * kinds * alone(code)) / sum(counts)

    def both(counts: list[int], left: int, up: int, code: int) -> float:
        lower = (one(left, code) + one(up, code)) / 2
        kinds = sum(c > 0 for c in counts)
        return (max(counts[code] - d_both, 0) + d_both * kinds * lower) / sum(counts)

    image = torch.tensor([[[0, 1], [0, 1]]])
    never_seen = (one(0, 1) + one(1, 1)) / 2  # left 0, up 1
    terms = [both([2, 0], 2, 2, 0), both([0, 2], 0, 2, 1), both([0, 2], 2, 0, 0), never_seen]
    assert prior.nats(image) == pytest.approx([-sum(map(math.log, terms))], rel=1e-12)


def test_in_one_dimension_the_two_codes_before_are_the_context() -> None:
    """Each code is the sum of the two before it (mod 5): certain from both, uniform from either alone."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 5, size=(3000, 8))
    for t in range(2, 8):
        codes[:, t] = (codes[:, t - 1] + codes[:, t - 2]) % 5
    train, test = torch.from_numpy(codes[:2000]), torch.from_numpy(codes[2000:])
    assert left_up(train, 5).nats(test).mean() == pytest.approx(2 * math.log(5), rel=0.01)


def test_a_two_dimensional_map_is_predicted_from_left_and_up() -> None:
    """Inside the border each code is left + up (mod 5); borders are uniform: 2 * 4 - 1 free codes of a 4x4 map."""
    codes = np.random.default_rng(0).integers(0, 5, size=(3000, 4, 4))
    for i, j in itertools.product(range(1, 4), repeat=2):
        codes[:, i, j] = (codes[:, i - 1, j] + codes[:, i, j - 1]) % 5
    train, test = torch.from_numpy(codes[:2000]), torch.from_numpy(codes[2000:])
    assert left_up(train, 5).nats(test).mean() == pytest.approx(7 * math.log(5), rel=0.02)


def test_the_unigram_reaches_the_entropy_of_independent_codes_and_left_up_does_not_beat_it() -> None:
    share = np.array([0.5, 0.25, 0.125, 0.125])
    codes = torch.from_numpy(np.random.default_rng(0).choice(4, p=share, size=(4000, 4, 4)))
    train, test = codes[:2000], codes[2000:]
    entropy = -(share * np.log(share)).sum()
    found = Unigram.fit(train, 4).nats(test)
    assert found.mean() / 16 == pytest.approx(entropy, abs=5 * found.std() / 16 / 2000**0.5 + 1e-4)
    assert left_up(train, 4).nats(test).mean() > found.mean()


def test_back_off_saves_a_large_codebook_from_ruin() -> None:
    """Few images, 512 codes, nearly every pair of neighbours new: still close to what the left neighbour alone gives."""
    codes = markov(600, (8, 8), 512)
    per_code = left_up(codes[:300], 512).nats(codes[300:]).mean() / 64
    truth = (8 * math.log(512) + 56 * math.log(2)) / 64
    assert truth < per_code < truth + 1.0
    assert per_code < Unigram.fit(codes[:300], 512).nats(codes[300:]).mean() / 64 - 3


def test_a_position_has_shares_of_its_own() -> None:
    """Each position of three draws from two codes of its own: the entropy is log 2, that of all positions together log 6."""
    rng = np.random.default_rng(0)
    codes = torch.from_numpy(rng.integers(0, 2, (3000, 3)) + 2 * np.arange(3))
    train, test = codes[:2000], codes[2000:]
    found = ladder((Level("a", (3,), 6),), (train,), (test,))
    assert found["position unigram"].mean() == pytest.approx(3 * math.log(2), rel=0.01)
    assert found["unigram"].mean() == pytest.approx(3 * math.log(6), rel=0.01)
    # by hand: the position's count, discounted, and the share of the code at all positions, discounted too
    prior = Conditional.fit(torch.tensor([[0, 1], [0, 1], [0, 0]]), 2, (POSITION,))
    d = 1 / (1 + 2 * 1)  # position 0: 0 three times; position 1: 1 twice and 0 once
    least = 0.05  # of all six codes 0 stands four times and 1 twice: none once, so the least discount
    share = (2 - least) / 6 + least * 2 / 6 / 2
    expected = -math.log((3 - d + d * (1 - share)) / 3) - math.log((2 - d + d * 2 * share) / 3)
    assert prior.nats(torch.tensor([[0, 1]])) == pytest.approx([expected])


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_each_of_four_neighbours_is_seen_where_it_is(name: str) -> None:
    """Each code copies one neighbour, where there is one: only that neighbour makes it certain, and all four do."""
    rng = np.random.default_rng(0)
    down, across = NEIGHBOURS[name]
    codes = rng.integers(0, 6, size=(3000, 4, 4))
    free = 16
    for i, j in itertools.product(range(4), repeat=2):
        if i + down >= 0 and 0 <= j + across < 4:
            codes[:, i, j] = codes[:, i + down, j + across]
            free -= 1
    train, test = torch.from_numpy(codes[:2000]), torch.from_numpy(codes[2000:])
    for names in ((name,), tuple(NEIGHBOURS)):
        assert Conditional.fit(train, 6, names).nats(test).mean() == pytest.approx(free * math.log(6), rel=0.03)
    others = tuple(other for other in NEIGHBOURS if other != name)
    assert Conditional.fit(train, 6, others).nats(test).mean() > (free + 1) * math.log(6)


def test_codes_too_many_to_be_multiplied_are_told_apart() -> None:
    """Four neighbours of 2^20 codes have 2^80 contexts, more than a 64-bit number holds."""
    codes = markov(200, (3, 3), 2) * (2**20 - 1)
    few, many = (Conditional.fit(part, k, tuple(NEIGHBOURS)) for part, k in ((codes // (2**20 - 1), 2), (codes, 2**20)))
    assert many.nats(codes).mean() == pytest.approx(few.nats(codes // (2**20 - 1)).mean(), abs=0.2)
