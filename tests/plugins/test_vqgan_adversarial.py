"""Hinge and non-saturating losses: their closed forms, their slopes, and which side pushes where."""

import math

import pytest
import torch
from torch import Tensor

from dvgen.interfaces.loss import AdversarialLoss
from dvgen_vqgan.adversarial import HingeLoss, NonSaturatingLoss

HINGE, NONSATURATING = HingeLoss(HingeLoss.Config()), NonSaturatingLoss(NonSaturatingLoss.Config())
BOTH = pytest.mark.parametrize("loss", [HINGE, NONSATURATING], ids=["hinge", "nonsaturating"])
REAL = [-2.0, -0.3, 0.4, 1.5, 30.0]
FAKE = [-40.0, -1.2, -0.7, 0.1, 2.5, 3.0]


def logits(values: list[float]) -> Tensor:
    """(b, 1, 1, 1) in float64, of another number for real than for fake, so that each is averaged by itself."""
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1).requires_grad_()


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_hinge_is_its_formula() -> None:
    expected = (mean([max(0.0, 1 - x) for x in REAL]) + mean([max(0.0, 1 + x) for x in FAKE])) / 2
    assert HINGE.discriminator(logits(REAL), logits(FAKE)).item() == pytest.approx(expected, rel=1e-12)
    assert HINGE.generator(logits(FAKE)).item() == pytest.approx(-mean(FAKE), rel=1e-12)


def test_nonsaturating_is_the_cross_entropy_of_the_right_answers() -> None:
    """-log D(real) - log(1 - D(fake)) and -log D(fake), as written in the paper."""
    expected = -mean([math.log(sigmoid(x)) for x in REAL]) - mean([math.log(sigmoid(-x)) for x in FAKE])
    assert NONSATURATING.discriminator(logits(REAL), logits(FAKE)).item() == pytest.approx(expected, rel=1e-12)
    expected = -mean([math.log(sigmoid(x)) for x in FAKE])
    assert NONSATURATING.generator(logits(FAKE)).item() == pytest.approx(expected, rel=1e-12)


def test_slopes_are_the_analytic_ones() -> None:
    """Autograd against derivatives by hand; no logit stands on a corner of the hinge."""
    n, m = len(REAL), len(FAKE)
    cases = [
        (HINGE, [-(x < 1) / 2 / n for x in REAL], [(x > -1) / 2 / m for x in FAKE], [-1 / m for _ in FAKE]),
        (
            NONSATURATING,
            [-sigmoid(-x) / n for x in REAL],
            [sigmoid(x) / m for x in FAKE],
            [-sigmoid(-x) / m for x in FAKE],
        ),
    ]
    for loss, on_real, on_fake, on_generator in cases:
        real, fake = logits(REAL), logits(FAKE)
        found = torch.autograd.grad(loss.discriminator(real, fake), (real, fake))
        for slope, expected in zip(found, (on_real, on_fake), strict=True):
            assert slope.flatten().tolist() == pytest.approx(expected, rel=1e-9)
        (slope,) = torch.autograd.grad(loss.generator(fake), fake)
        assert slope.flatten().tolist() == pytest.approx(on_generator, rel=1e-9)


@BOTH
def test_a_right_discriminator_loses_nothing_and_a_wrong_one_much(loss: AdversarialLoss) -> None:
    """Cross-entropy with its two arguments exchanged, as in a public repository, fails this."""
    high, low = torch.full((2, 1, 3, 3), 40.0), torch.full((2, 1, 3, 3), -40.0)
    assert loss.discriminator(high, low).item() == pytest.approx(0.0, abs=1e-12)
    assert loss.discriminator(low, high).item() > 30


@BOTH
def test_the_generator_always_pushes_its_logits_up(loss: AdversarialLoss) -> None:
    """Hardest where the discriminator is surest: there it must not saturate."""
    fake = torch.linspace(-15, 15, 31, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(loss.generator(fake), fake)
    assert bool((slope < 0).all())
    assert slope[0].abs() == slope.abs().max()
    assert slope[0].item() == pytest.approx(-1 / 31, rel=1e-5)


@BOTH
def test_the_discriminator_pushes_real_up_and_fake_down(loss: AdversarialLoss) -> None:
    real, fake = logits([-0.5, 0.0, 0.5]), logits([-0.5, 0.0, 0.5])
    up, down = torch.autograd.grad(loss.discriminator(real, fake), (real, fake))
    assert bool((up < 0).all())
    assert bool((down > 0).all())


def test_the_scales_that_the_docstrings_promise() -> None:
    zeros = torch.zeros(4, 1, 2, 2)
    assert HINGE.discriminator(zeros, zeros).item() == 1
    assert NONSATURATING.discriminator(zeros, zeros).item() == pytest.approx(2 * math.log(2))


@BOTH
def test_huge_logits_stay_finite(loss: AdversarialLoss) -> None:
    huge = torch.tensor([-1e30, 1e30])
    assert loss.discriminator(huge, huge).isfinite()
    assert loss.generator(huge).isfinite()
    assert list(loss.parameters()) == []
