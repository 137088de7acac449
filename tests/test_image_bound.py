"""The bound of an image's likelihood is that of a distribution over 256 values, and a bound."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from dvgen.errors import ShapeError
from dvgen.evaluation.image_bound import NARROWEST, WIDEST, decoder_nats, fit_scales, log_likelihood
from dvgen.evaluation.reconstruction import from_uint8


@pytest.mark.parametrize("mean", [-1.7, -1.0, -0.2, 0.003, 1.0, 1.3])
@pytest.mark.parametrize("scale", [NARROWEST, 0.001, 0.02, 0.3, WIDEST])
def test_probabilities_of_the_256_values_add_up_to_one(mean: float, scale: float) -> None:
    found = log_likelihood(torch.arange(256), torch.tensor(mean), torch.tensor(scale))
    assert found.dtype == torch.float64
    assert float(found.exp().sum()) == pytest.approx(1, abs=1e-9)
    assert bool(found.isfinite().all())


def test_each_value_has_the_mass_of_scipys_logistic_distribution_on_it() -> None:
    """In the middle, at both open ends, and 40 scales out, where a difference of two sigmoids would be 0."""
    edges = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 127.5 - 1, [np.inf]])
    logistic = stats.logistic(0.1, 0.05)
    found = log_likelihood(torch.arange(256), torch.tensor(0.1, dtype=torch.float64), torch.tensor(0.05, dtype=torch.float64))
    # on either side of the mean the function that is small there, or digits are lost
    mass = np.where(edges[1:] < 0.1, np.diff(logistic.cdf(edges)), -np.diff(logistic.sf(edges)))
    np.testing.assert_allclose(found.exp().numpy(), mass, rtol=1e-8)
    far = log_likelihood(torch.tensor(200), torch.tensor(-1.0), torch.tensor(0.02))
    density = stats.logistic(-1.0, 0.02).logpdf(200 / 127.5 - 1) + math.log(2 / 255)
    assert float(far) == pytest.approx(density, abs=0.05)


def images(n: int, scales: tuple[float, ...], seed: int = 0) -> tuple[Tensor, Tensor]:
    """8-bit images around reconstructions, with logistic noise of these scales in their channels."""
    rng = np.random.default_rng(seed)
    means = rng.uniform(-0.8, 0.8, (n, len(scales), 8, 8))
    noisy = means + rng.logistic(size=means.shape) * np.array(scales)[:, None, None]
    pixels = torch.from_numpy(np.clip(np.round((noisy + 1) * 127.5), 0, 255).astype(np.uint8))
    return from_uint8(pixels), torch.from_numpy(means).float()


def test_the_scale_of_each_channel_is_found_and_no_other_is_likelier() -> None:
    true = (0.03, 0.1, 0.005)
    originals, reconstructed = images(200, true)
    scales = fit_scales(originals, reconstructed)
    assert scales.tolist() == pytest.approx(true, rel=0.03)
    best = decoder_nats(originals, reconstructed, scales).mean()
    for i, factor in ((0, 1.02), (1, 0.98), (2, 1.02)):
        other = scales.clone()
        other[i] *= factor
        assert decoder_nats(originals, reconstructed, other).mean() > best


def test_perfect_and_useless_reconstructions_are_fitted_too() -> None:
    originals, _ = images(5, (0.1,))
    sharp = fit_scales(originals, originals)
    assert float(decoder_nats(originals, originals, sharp).sum()) == pytest.approx(0, abs=1e-3)
    noise = from_uint8(torch.randint(256, (50, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8))
    blank = torch.zeros_like(noise)
    bits = decoder_nats(noise, blank, fit_scales(noise, blank)).mean() / 64 / math.log(2)
    assert 8 < float(bits) < 8.3  # no distribution takes fewer than 8 bits for uniform values


def test_an_image_is_the_sum_over_its_values_with_the_scale_of_their_channel() -> None:
    originals, reconstructed = images(3, (0.03, 0.1))
    scales = torch.tensor([0.02, 0.2], dtype=torch.float64)
    found = decoder_nats(originals, reconstructed, scales)
    pixels = ((originals + 1) * 127.5).round()
    expected = sum(-log_likelihood(pixels[:, i], reconstructed[:, i], scales[i]).flatten(1).sum(1) for i in range(2))
    assert (found.shape, found.dtype) == ((3,), torch.float64)
    torch.testing.assert_close(found, expected)


def test_codes_and_decoder_bound_the_likelihood_of_images() -> None:
    """Two codes decode to two grey levels; p(x) sums over both, and the bound is the term of the nearer: never less."""
    originals, _ = images(20, (0.1,))
    scales = torch.tensor([0.4], dtype=torch.float64)
    terms = [math.log(2) + decoder_nats(originals, torch.full_like(originals, grey), scales) for grey in (-0.2, 0.2)]
    exact = -torch.logsumexp(-torch.stack(terms), dim=0)
    assert bool((torch.stack(terms).min(dim=0).values > exact).all())


def test_sound_and_other_shapes_are_refused() -> None:
    for original, reconstructed in (
        (torch.zeros(2, 1, 9), torch.zeros(2, 1, 9)),
        (torch.zeros(2, 1, 8, 8), torch.zeros(1, 1, 8, 8)),
    ):
        with pytest.raises(ShapeError, match="sound"):
            fit_scales(original, reconstructed)
        with pytest.raises(ShapeError, match="sound"):
            decoder_nats(original, reconstructed, torch.ones(1))
