"""Counting priors are normalised, and right on examples small enough to count by hand."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dvgen.errors import ShapeError
from dvgen.evaluation.baselines import LeftUp, Unigram


def markov(n: int, grid: tuple[int, ...], num_codes: int, seed: int = 0) -> Tensor:
    """Each code equals its left neighbour plus 0 or 1 (mod num_codes); rows start uniformly."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(0, 2, size=(n, *grid))
    steps[..., 0] = rng.integers(0, num_codes, size=(n, *grid[:-1]))
    return torch.from_numpy(steps.cumsum(axis=-1) % num_codes)


@settings(max_examples=20, deadline=None)
@given(
    num_codes=st.integers(1, 5), n=st.integers(1, 30), seed=st.integers(0, 1000), grid=st.sampled_from([(5,), (3, 2), (1, 1)])
)
def test_probabilities_of_every_context_add_up_to_one(num_codes: int, n: int, seed: int, grid: tuple[int, ...]) -> None:
    """Contexts never seen in training and borders included."""
    generator = torch.Generator().manual_seed(seed)
    prior = LeftUp.fit(torch.randint(num_codes, (n, *grid), generator=generator), num_codes)
    contexts = np.array(list(itertools.product(range(num_codes + 1), repeat=2)))
    total = sum(prior.probability(contexts[:, 0], contexts[:, 1], np.full(len(contexts), code)) for code in range(num_codes))
    np.testing.assert_allclose(total, 1, atol=1e-12)


@pytest.mark.parametrize(("grid", "num_codes"), [((4,), 3), ((2, 2), 3), ((3, 2), 2)])
@pytest.mark.parametrize("kind", [Unigram, LeftUp])
def test_probabilities_of_all_maps_add_up_to_one(kind: type[Unigram | LeftUp], grid: tuple[int, ...], num_codes: int) -> None:
    every = torch.tensor(list(itertools.product(range(num_codes), repeat=math.prod(grid)))).reshape(-1, *grid)
    prior = kind.fit(markov(4, grid, num_codes), num_codes)
    assert np.exp(-prior.nats(every)).sum() == pytest.approx(1, abs=1e-12)


def test_a_unigram_is_counts_plus_one_half() -> None:
    prior = Unigram.fit(torch.tensor([[0, 0, 1], [0, 1, 0]]), 3)
    expected = -math.log(4.5 / 7.5) - math.log(2.5 / 7.5) - math.log(0.5 / 7.5)
    assert prior.nats(torch.tensor([[0, 1, 2]])) == pytest.approx([expected])


def test_neighbours_are_counted_and_discounted_as_by_hand() -> None:
    """Two codes, one 2x2 image twice: contexts, counts and every discount written out. `2` is the border."""
    prior = LeftUp.fit(torch.tensor([[[0, 1], [1, 1]], [[0, 1], [1, 0]]]), 2)
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
    assert LeftUp.fit(train, 5).nats(test).mean() == pytest.approx(2 * math.log(5), rel=0.01)


def test_a_two_dimensional_map_is_predicted_from_left_and_up() -> None:
    """Inside the border each code is left + up (mod 5); borders are uniform: 2 * 4 - 1 free codes of a 4x4 map."""
    codes = np.random.default_rng(0).integers(0, 5, size=(3000, 4, 4))
    for i, j in itertools.product(range(1, 4), repeat=2):
        codes[:, i, j] = (codes[:, i - 1, j] + codes[:, i, j - 1]) % 5
    train, test = torch.from_numpy(codes[:2000]), torch.from_numpy(codes[2000:])
    assert LeftUp.fit(train, 5).nats(test).mean() == pytest.approx(7 * math.log(5), rel=0.02)


def test_the_unigram_reaches_the_entropy_of_independent_codes_and_left_up_does_not_beat_it() -> None:
    share = np.array([0.5, 0.25, 0.125, 0.125])
    codes = torch.from_numpy(np.random.default_rng(0).choice(4, p=share, size=(4000, 4, 4)))
    train, test = codes[:2000], codes[2000:]
    entropy = -(share * np.log(share)).sum()
    found = Unigram.fit(train, 4).nats(test)
    assert found.mean() / 16 == pytest.approx(entropy, abs=5 * found.std() / 16 / 2000**0.5 + 1e-4)
    assert LeftUp.fit(train, 4).nats(test).mean() > found.mean()


def test_back_off_saves_a_large_codebook_from_ruin() -> None:
    """Few images, 512 codes, nearly every pair of neighbours new: still close to what the left neighbour alone gives."""
    codes = markov(600, (8, 8), 512)
    per_code = LeftUp.fit(codes[:300], 512).nats(codes[300:]).mean() / 64
    truth = (8 * math.log(512) + 56 * math.log(2)) / 64
    assert truth < per_code < truth + 1.0
    assert per_code < Unigram.fit(codes[:300], 512).nats(codes[300:]).mean() / 64 - 3


def test_codes_out_of_range_masked_or_of_another_kind_are_refused() -> None:
    good = torch.zeros(2, 3, dtype=torch.int64)
    for kind in (Unigram, LeftUp):
        prior = kind.fit(good, 2)
        for bad in (good + 2, good - 1):
            with pytest.raises(ShapeError, match=r"0\.\.1"):
                prior.nats(bad)
            with pytest.raises(ShapeError, match=r"0\.\.1"):
                kind.fit(bad, 2)
        with pytest.raises(ShapeError, match="int64"):
            prior.nats(good.float())


def test_a_code_never_seen_is_unlikely_and_not_impossible() -> None:
    """Even when every count is large, so that nothing was seen once and the estimated discount would be 0."""
    for kind in (Unigram, LeftUp):
        nats = kind.fit(torch.zeros(100, 4, dtype=torch.int64), 3).nats(torch.tensor([[0, 0, 0, 0], [0, 2, 0, 0]]))
        assert np.isfinite(nats).all()
        assert nats[1] > nats[0] + 3
