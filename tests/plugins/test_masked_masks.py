"""The masks of the masked prior: how many codes each step leaves, which ones training hides, and the sets of its bound."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Generator

from dvgen_masked.masks import bound_conditionals, masked_after, training_masks


def test_the_schedule_of_sampling_is_the_cosine_of_the_code_release() -> None:
    """Rounded down, as there; the paper rounds up."""
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


@pytest.mark.parametrize(("length", "masks"), [(3, 7), (64, 16), (4, 13)], ids=["all sets", "one order", "three orders"])
def test_masks_are_on_the_cpu_whatever_the_default_device(length: int, masks: int) -> None:
    """A model that is built on the meta device and then given memory has the same masks as any other."""
    plain = bound_conditionals(length, masks)
    with torch.device("meta"):
        conditionals = bound_conditionals(length, masks)
        drawn = training_masks(torch.ones(2, length, dtype=torch.bool, device="cpu"), "cosine", Generator().manual_seed(0))
    assert drawn.device.type == "cpu"
    assert all(torch.equal(mine, other) for mine, other in zip(conditionals, plain, strict=True))


@pytest.mark.parametrize(("length", "masks"), [(3, 7), (64, 16), (64, 4), (6, 12), (4, 13)])
def test_every_position_weighs_one(length: int, masks: int) -> None:
    """So a perfect prior of independent codes gets its log-probability and not a nat more."""
    hidden, weights = bound_conditionals(length, masks)
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(length, dtype=torch.float64))
    assert not weights[~hidden].any()
    assert len(hidden) <= masks
