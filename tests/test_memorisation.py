"""Samples that repeat the training set are told from samples of the same distribution."""

import math

import pytest
import torch
from attrs import frozen
from torch import Tensor

from dvgen.errors import ConfigError, ShapeError
from dvgen.evaluation.memorisation import duplicates, memorised, nearest
from dvgen.interfaces.features import Features


class Two(Features):
    """Two networks of three features."""

    @frozen
    class Config:
        pass

    dim = 3
    members = 2
    label = "two"
    weights_hash = "00"

    def forward(self, signals: Tensor) -> Tensor:
        raise NotImplementedError


ABOUT = {"temperature": "1.0"}


def table(n: int, *, seed: int, columns: int = 6) -> Tensor:
    return torch.randn(n, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def share_by_pairs(samples: Tensor, train: Tensor, held_out: Tensor) -> float:
    def least(row: Tensor, others: Tensor) -> float:
        return min(math.dist(row.tolist(), other.tolist()) for other in others)

    scores = []
    for row in samples:
        to_train, to_held_out = least(row, train), least(row, held_out)
        scores.append(0.5 if to_train == to_held_out else float(to_train < to_held_out))
    return sum(scores) / len(scores)


def test_it_is_the_share_closer_to_training_signals_in_each_network() -> None:
    """The mean over networks, and their range; a tie counts half; the longer of two sets is cut to the shorter."""
    samples, train, held_out = table(20, seed=0), table(9, seed=1), table(7, seed=2)
    samples[0, :3] = train[0, :3] = held_out[0, :3] = 50.0
    found = memorised(Two(), samples, train, held_out, "ref", ABOUT)
    parts = [share_by_pairs(samples[:, p], train[:7, p], held_out[:, p]) for p in (slice(3), slice(3, 6))]
    assert found.value == pytest.approx(sum(parts) / 2)
    assert found.range == pytest.approx((min(parts), max(parts)))
    assert (parts[0] * 20) % 1 == 0.5
    assert found.n == 20
    assert dict(found.key.protocol)["kind"] == "diagnostic"
    assert found.key.metric == "memorised[two]"


def test_copies_give_one_and_fresh_draws_a_half() -> None:
    train, held_out = table(400, seed=1), table(400, seed=2)
    copied = memorised(Two(), train[:100] + 1e-9, train, held_out, "ref", ABOUT)
    fresh = memorised(Two(), table(400, seed=3), train, held_out, "ref", ABOUT)
    assert copied.value == 1
    assert copied.interval is not None
    assert 0.95 < copied.interval[0] < copied.interval[1] == 1
    assert fresh.interval is not None
    assert fresh.interval[0] < 0.5 < fresh.interval[1]


def test_bits_and_sizes_stand_in_the_key() -> None:
    tables = (table(5, seed=0), table(5, seed=1), table(5, seed=2))
    keys = [memorised(Two(), *tables, "ref", ABOUT, bits=bits).key for bits in (8, 16)]
    assert keys[0] != keys[1]
    assert memorised(Two(), *(x[:4] for x in tables), "ref", ABOUT).key != keys[0]


def test_tables_of_other_features_and_empty_ones_are_refused() -> None:
    with pytest.raises(ShapeError, match="2 x 3 columns"):
        memorised(Two(), table(4, seed=0, columns=5), table(4, seed=1), table(4, seed=2), "ref", ABOUT)
    with pytest.raises(ConfigError, match="at least one"):
        memorised(Two(), table(4, seed=0), table(0, seed=1), table(4, seed=2), "ref", ABOUT)


def test_the_nearest_row_is_found_and_the_first_of_equals() -> None:
    train = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [5.0, 5.0]])
    assert nearest(torch.tensor([[0.9, 0.0], [4.0, 4.0], [-1.0, 0.0]]), train).tolist() == [1, 3, 0]


def test_duplicates_are_maps_equal_at_every_level() -> None:
    """One equal level of two is not a duplicate; a sample drawn twice counts twice, however often it was trained on."""
    top = torch.tensor([[[0, 1]], [[2, 3]], [[2, 3]], [[0, 1]], [[7, 7]]])
    bottom = torch.tensor([[1, 2, 3], [4, 5, 6], [4, 5, 6], [9, 9, 9], [1, 2, 3]])
    train = (torch.tensor([[[2, 3]], [[2, 3]], [[0, 1]]]), torch.tensor([[4, 5, 6], [4, 5, 6], [1, 2, 3]]))
    found = duplicates((top, bottom), [train], "hash", ABOUT)
    assert (found.value, found.n) == (3 / 5, 5)
    assert found.interval is not None
    assert found.interval[0] < 3 / 5 < found.interval[1]
    assert dict(found.key.protocol)["codes"] == "hash"
    assert dict(found.key.protocol)["n train"] == "3"
    parts = [(train[0][:1], train[1][:1]), (train[0][1:], train[1][1:])]
    assert duplicates((top, bottom), parts, "hash", ABOUT) == found
    assert duplicates((top[:1], bottom[3:4]), [train], "hash", ABOUT).value == 0
    with pytest.raises(ShapeError, match="same levels"):
        duplicates((top,), [train], "hash", ABOUT)
