"""Likelihoods are sums over every position, in float64, and never below the entropy of the truth."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dvgen.errors import IncomparableError, IntegrityError, NonFiniteError, ShapeError
from dvgen.evaluation.measurement import difference
from dvgen.evaluation.nll import (
    LikelihoodProtocol,
    check_floor,
    check_not_below,
    code_map_entropy,
    excess_nats,
    excess_over,
    likelihoods,
    per_image_nats,
)
from dvgen.interfaces.codes import Codes, Level

LEVELS = (Level("top", (2, 2), 4), Level("bottom", (4, 4), 8))


def draw(n: int, num_codes: tuple[int, ...] = (4, 8), seed: int = 0) -> Codes:
    generator = torch.Generator().manual_seed(seed)
    grids = zip(LEVELS, num_codes, strict=True)
    return tuple(torch.randint(k, (n, *level.grid), generator=generator) for level, k in grids)


def uniform(codes: Codes, labels: Tensor | None) -> tuple[Tensor, ...]:
    return tuple(torch.full(code.shape, -math.log(level.num_codes)) for code, level in zip(codes, LEVELS, strict=True))


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
def test_a_uniform_prior_costs_the_logarithm_of_the_codes_at_every_position(batch: int) -> None:
    nats = per_image_nats(uniform, draw(7), None, batch)
    assert nats.dtype == np.float64
    np.testing.assert_allclose(nats, [[4 * math.log(4)] * 7, [16 * math.log(8)] * 7], rtol=1e-6)


def test_each_image_keeps_its_own_value_and_its_own_label() -> None:
    codes, labels = draw(10), torch.arange(10)

    def labelled(part: Codes, label: Tensor | None) -> tuple[Tensor, ...]:
        assert label is not None
        return tuple(-label.reshape(-1, *[1] * (code.ndim - 1)) * (code + 1.0) for code in part)

    expected = [[i * float((code[i] + 1).sum()) for i in range(10)] for code in codes]
    np.testing.assert_allclose(per_image_nats(labelled, codes, labels, 4), expected)


def test_many_small_terms_are_added_in_float64() -> None:
    """In float32 ten million times 0.1 drifts; the sum must be that of the float32 terms."""
    code = torch.zeros(1, 1_000_000, dtype=torch.int64)
    nats = per_image_nats(lambda codes, labels: (torch.full(code.shape, -0.1),), (code,), None, 1)
    assert nats[0, 0] == pytest.approx(1_000_000 * float(np.float32(0.1)), rel=1e-12)


def test_terms_that_cannot_be_log_probabilities_are_refused() -> None:
    codes = draw(5)

    def at_three(value: float) -> tuple[Tensor, ...]:
        terms = uniform(codes, None)
        terms[1][3, 0, 0] = value
        return terms

    for value in (math.nan, -math.inf):
        with pytest.raises(NonFiniteError, match="image 3, level 1"):
            per_image_nats(lambda part, labels, value=value: at_three(value), codes, None, 5)
    with pytest.raises(IntegrityError, match=r"level 1.*above 1"):
        per_image_nats(lambda part, labels: at_three(0.5), codes, None, 5)
    with pytest.raises(ShapeError, match="one log-probability a code"):
        per_image_nats(lambda part, labels: uniform(part, None)[:1], codes, None, 5)
    with pytest.raises(ShapeError, match="one log-probability a code"):
        per_image_nats(lambda part, labels: tuple(t.sum(-1) for t in uniform(part, None)), codes, None, 5)


def test_the_entropy_of_code_maps_is_that_of_a_count_by_hand() -> None:
    codes = draw(200, num_codes=(1, 2))
    codes = (codes[0], codes[1].clone())
    codes[1][:, 1:] = 0  # four bits an image are left, so that maps repeat
    codes[0][:, 0, 0] = torch.arange(200) % 3
    labels = torch.arange(200) % 2

    def entropy(keys: list[tuple[int, ...]]) -> float:
        return -sum(c / len(keys) * math.log(c / len(keys)) for c in Counter(keys).values())

    maps = [(*codes[0][i].flatten().tolist(), *codes[1][i].flatten().tolist()) for i in range(200)]
    joint = [(*m, int(label)) for m, label in zip(maps, labels, strict=True)]
    assert code_map_entropy(codes) == pytest.approx(entropy(maps), abs=1e-12)
    assert 0 < entropy(maps) < math.log(200)
    conditional = entropy(joint) - entropy([(int(label),) for label in labels])
    assert code_map_entropy(codes, labels) == pytest.approx(conditional, abs=1e-12)


def test_two_levels_that_differ_only_together_are_different_maps() -> None:
    top = torch.tensor([[0], [0], [1], [1]])
    bottom = torch.tensor([[0], [1], [0], [1]])
    assert code_map_entropy((top, bottom)) == pytest.approx(math.log(4))
    assert code_map_entropy((top,)) == pytest.approx(math.log(2))
    assert code_map_entropy((top, bottom), top[:, 0]) == pytest.approx(math.log(2))


def test_the_truth_has_no_excess_and_a_leak_is_refused() -> None:
    code = torch.tensor([[0], [0], [1], [2]])
    entropy = code_map_entropy((code,))
    truth = torch.tensor([0.5, 0.25, 0.25]).log()
    nats = per_image_nats(lambda codes, labels: (truth[codes[0]],), (code,), None, 2)
    excess = excess_nats(float(nats.mean()), entropy)
    assert excess == pytest.approx(0, abs=1e-6)
    check_floor(excess, entropy, "truth")
    check_floor(-0.9e-4 * entropy, entropy, "rounding")
    with pytest.raises(IntegrityError, match=r"below the exact entropy.*the prior sees what it should predict") as caught:
        check_floor(-0.01 * entropy, entropy, "leak")
    assert caught.value.exit_code == 4
    check_floor(-0.9e-6, 0.0, "one map")
    with pytest.raises(IntegrityError, match="leak"):
        check_floor(-1e-5, 0.0, "leak")


def test_units_are_those_of_the_uniform_prior() -> None:
    protocol = LikelihoodProtocol(codes="3f9a", split="test")
    found = likelihoods(per_image_nats(uniform, draw(5), None, 5), LEVELS, protocol)
    bits = 4 * 2 + 16 * 3
    expected = {
        "nll": ("nats/code", bits * math.log(2) / 20, "all"),
        "bits_code": ("bits/code", bits / 20, "all"),
        "bits_image": ("bits/image", bits, "all"),
        "nll/top": ("nats/code", math.log(4), "top"),
        "bits_image/top": ("bits/image", 4 * 2, "top"),
        "nll/bottom": ("nats/code", math.log(8), "bottom"),
        "bits_image/bottom": ("bits/image", 16 * 3, "bottom"),
    }
    assert found.keys() == expected.keys()
    for name, (unit, value, level) in expected.items():
        assert found[name].value == pytest.approx(value, rel=1e-6), name
        assert (found[name].key.unit, dict(found[name].key.protocol)["level"]) == (unit, level)
    assert all(m.n == 5 and m.interval is not None for m in found.values())
    assert set(likelihoods(np.ones((1, 5)), LEVELS[:1], protocol)) == {"nll", "bits_code", "bits_image"}


def test_a_bound_of_one_level_is_a_bound_of_that_level_and_of_all_together() -> None:
    protocol = LikelihoodProtocol(codes="a", split="test", bounds=frozenset({"bottom"}))
    found = likelihoods(np.ones((2, 3)), LEVELS, protocol)
    kinds = {name: dict(m.key.protocol)["likelihood"] for name, m in found.items()}
    bounds = {"nll", "bits_code", "bits_image", "nll/bottom", "bits_image/bottom"}
    assert {name for name, kind in kinds.items() if kind == "bound"} == bounds
    assert {name for name, kind in kinds.items() if kind == "exact"} == {"nll/top", "bits_image/top"}


@pytest.mark.parametrize(
    "other", [{"codes": "b"}, {"split": "train"}, {"conditioning": "labels"}, {"bounds": frozenset({"top"})}]
)
def test_likelihoods_of_other_codes_splits_conditioning_or_kind_are_incomparable(other: dict[str, object]) -> None:
    given: dict[str, Any] = {"codes": "a", "split": "test", "conditioning": "none"}
    one, two = (
        likelihoods(np.ones((1, 3)), LEVELS[:1], LikelihoodProtocol(**table))["nll"] for table in (given, given | other)
    )
    with pytest.raises(IncomparableError):
        difference(one, two)


def test_the_code_rate_is_bits_over_the_values_of_a_signal() -> None:
    """The uniform prior of 4 codes of 4 and 16 of 8: 56 bits, over 3 x 8 x 8 values; no rate where there are no signals."""
    protocol = LikelihoodProtocol(codes="a", split="test")
    nats = per_image_nats(uniform, draw(5), None, 5)
    rate = likelihoods(nats, LEVELS, protocol, values=3 * 8 * 8)["code_rate"]
    assert rate.value == pytest.approx(56 / 192, rel=1e-6)
    assert (rate.key.metric, rate.key.unit, rate.n) == ("code rate", "bits/value", 5)
    assert "code_rate" not in likelihoods(nats, LEVELS, protocol)


def markov_draws(n: int, length: int, stay: float, seed: int = 0) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Two codes; each stays what the one before it was with this probability."""
    changes = np.random.default_rng(seed).random((n, length)) >= stay
    changes[:, 0] = np.random.default_rng(seed + 1).random(n) < 0.5
    return changes.cumsum(axis=1) % 2


def markov_log_prob(codes: np.ndarray[Any, np.dtype[np.int64]], stay: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    same = (np.diff(codes, axis=1) == 0).sum(axis=1)
    return math.log(0.5) + same * math.log(stay) + (codes.shape[1] - 1 - same) * math.log(1 - stay)


PROTOCOL = LikelihoodProtocol(codes="a", split="test")


def test_the_excess_over_the_truth_is_the_divergence_of_the_two() -> None:
    """A chain with another probability of staying: KL is (length - 1) times that of two coins, within the paired interval,
    which is much narrower than that of the likelihood itself."""
    codes = markov_draws(3000, 20, stay=0.8)
    truth, model = markov_log_prob(codes, 0.8), -markov_log_prob(codes, 0.75)
    coin = 0.8 * math.log(0.8 / 0.75) + 0.2 * math.log(0.2 / 0.25)
    found = excess_over(model, truth, 20, PROTOCOL)
    assert found.interval is not None
    low, high = found.interval
    assert low <= coin * 19 / 20 <= high
    assert (found.n, found.key.metric, found.key.unit) == (3000, "excess", "nats/code")
    nll = likelihoods(model[None], (Level("a", (20,), 2),), PROTOCOL)["nll"]
    assert nll.interval is not None
    assert high - low < (nll.interval[1] - nll.interval[0]) / 3
    check_not_below(found, "honest")


def test_a_prior_below_the_truth_is_refused_and_one_at_the_truth_is_not() -> None:
    codes = markov_draws(500, 20, stay=0.8)
    truth = markov_log_prob(codes, 0.8)
    rounding = -truth * (1 + 1e-6 * np.random.default_rng(0).normal(-1, 1, 500))
    check_not_below(excess_over(rounding, truth, 20, PROTOCOL), "the truth, rounded")
    leak = excess_over(-truth * 0.98, truth, 20, PROTOCOL)
    with pytest.raises(IntegrityError, match=r"gpt: an excess of -0\.0.* below 0") as caught:
        check_not_below(leak, "gpt")
    assert caught.value.exit_code == 4
    noisy = excess_over(-truth + np.random.default_rng(0).normal(-0.1, 30, 500), truth, 20, PROTOCOL)
    assert noisy.interval is not None
    assert noisy.interval[0] < 0 < noisy.interval[1]
    check_not_below(noisy, "nothing sure")
    check_not_below(excess_over(np.array([1.0]), np.array([-2.0]), 1, PROTOCOL), "one image")


def test_an_excess_needs_one_finite_value_an_image_of_both() -> None:
    for model, truth in ((np.ones(3), np.ones(2)), (np.ones((1, 3)), np.ones((1, 3)))):
        with pytest.raises(ShapeError, match="one value an image"):
            excess_over(model, truth, 1, PROTOCOL)
    with pytest.raises(NonFiniteError, match="image 1: -inf"):
        excess_over(np.ones(3), np.array([-1.0, -math.inf, -1.0]), 1, PROTOCOL)
