"""Data order: a pure function of (seed, epoch, step), in which every epoch shows everything once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dvgen.data.order import Order, permutation
from dvgen.errors import ConfigError

SIZES = {"n": st.integers(1, 40), "batch": st.integers(1, 90), "seed": st.integers(0, 2**40)}


def straight(n, batch, seed, steps):
    order = Order(n, batch, seed)
    return [order.batch(step) for step in range(steps)]


@settings(max_examples=25, deadline=None)
@given(**SIZES)
def test_every_epoch_is_a_permutation(n, batch, seed):
    shown = torch.cat(straight(n, batch, seed, 1 + 3 * n // batch))
    for epoch in shown.split(n)[: len(shown) // n]:
        assert sorted(epoch.tolist()) == list(range(n))


@settings(max_examples=25, deadline=None)
@given(**SIZES, world=st.integers(1, 5), step=st.integers(0, 50))
def test_ranks_divide_the_global_batch_for_any_world_size(n, batch, seed, world, step):
    order = Order(n, batch, seed)
    whole = order.batch(step)
    assert len(whole) == batch
    for rank in range(world):
        assert torch.equal(order.batch(step, rank, world), whole[rank::world])


@settings(max_examples=25, deadline=None)
@given(**SIZES, step=st.integers(0, 12))
def test_resuming_at_a_step_equals_the_straight_run(n, batch, seed, step):
    run = straight(n, batch, seed, step + 3)
    resumed = Order(n, batch, seed)
    assert all(torch.equal(resumed.batch(s), run[s]) for s in range(step, step + 3))
    assert torch.equal(resumed.batch(0), run[0])  # back again, past the kept epoch


def test_epochs_and_seeds_differ():
    order = Order(1000, 1000, seed=0)
    assert not torch.equal(order.batch(0), order.batch(1))
    assert not torch.equal(order.batch(0), Order(1000, 1000, seed=1).batch(0))


def test_the_permutation_is_the_same_on_every_machine_and_release():
    """Written down once: if this changes, runs of an older version can no longer be resumed or repeated."""
    assert permutation(8, 0).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
    assert Order(8, 8, seed=3).batch(0).tolist() == [7, 1, 4, 6, 2, 3, 0, 5]


def test_the_permutation_is_uniform():
    """All 6 permutations of 3 items come equally often: chi-squared with 5 degrees of freedom, 99.99 % at 25.7."""
    counts = torch.zeros(3, 3, 3)
    for seed in range(3000):
        counts[tuple(permutation(3, seed).tolist())] += 1
    seen = counts[counts > 0]
    assert len(seen) == 6
    assert ((seen - 500) ** 2 / 500).sum() < 25.7


@pytest.mark.parametrize(("n", "batch"), [(0, 4), (4, 0)])
def test_nothing_to_order_is_an_error(n, batch):
    with pytest.raises(ConfigError, match="at least one"):
        Order(n, batch, seed=0)
