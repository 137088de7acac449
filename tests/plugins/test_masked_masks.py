"""The masks of the masked prior: how many codes each step leaves, which ones training hides, and the sets of its bound."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Generator

from dvgen_masked.masks import _random_sets, bound_conditionals, masked_after, training_masks


def test_the_schedule_of_sampling_is_the_published_cosine() -> None:
    assert masked_after(16, 8) == [15, 14, 13, 11, 8, 6, 3, 0]  # floor(16 cos(pi step / 16)), worked by hand
    for length, steps in itertools.product((1, 2, 5, 16, 64, 256), (1, 2, 7, 8, 12, 64, 300)):
        left = masked_after(length, steps)
        revealed = [before - after for before, after in itertools.pairwise([length, *left])]
        assert len(left) == min(length, steps)
        assert left[-1] == 0
        assert min(revealed) > 0
        if steps >= length:
            assert revealed == [1] * length
        if steps**2 <= 3 * length:  # the cosine itself reveals one at every step
            assert left[:-1] == [math.floor(length * math.cos(math.pi * i / 2 / steps)) for i in range(1, steps)]


@pytest.mark.parametrize("schedule", ["cosine", "uniform"])
def test_training_masks_have_the_distribution_of_their_schedule(schedule: str) -> None:
    """count <= k exactly when cos(pi r / 2) <= k / n, or 1 - r <= k / n; every observed place equally often, no other ever."""
    observed = torch.tensor([True, False, True, True, True, True]).expand(20000, 6)
    masks = training_masks(observed, schedule, Generator().manual_seed(0))
    below = [1 - 2 / math.pi * math.acos(k / 5) if schedule == "cosine" else k / 5 for k in range(6)]
    found = torch.bincount(masks.sum(dim=1), minlength=6).numpy()
    assert found[0] == 0
    assert chisquare(found[1:], np.diff(below) * 20000).pvalue > 1e-6
    assert not masks[:, 1].any()
    assert chisquare(masks.sum(dim=0).numpy()[[0, 2, 3, 4, 5]]).pvalue > 1e-6


def test_random_sets_are_unbiased_and_stratified() -> None:
    """Their mean weights are those of all sets; with a multiple of the length of masks, each size is as frequent."""
    for masks in (2, 5):
        every, weights = bound_conditionals(3, 7, "sets")
        mean = torch.zeros_like(weights)
        for seed in range(6000):
            for hidden, weight in zip(*_random_sets(3, masks, Generator().manual_seed(seed)), strict=True):
                mean[(every == hidden).all(dim=1)] += weight / 6000
        torch.testing.assert_close(mean, weights, rtol=0, atol=0.03)
    hidden, _ = bound_conditionals(6, 12, "sets")
    assert sorted(hidden.sum(dim=1).tolist()) == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
