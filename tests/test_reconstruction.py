"""8-bit rounding loses no grey level, and PSNR is the mean over images of the closed form."""

import math

import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio

from dvgen.errors import NonFiniteError, ShapeError
from dvgen.evaluation.reconstruction import CAP, from_uint8, psnr, psnr_key, to_uint8


def test_all_256_grey_levels_survive_in_every_precision() -> None:
    """The cast that torchmetrics does, `(x * 255).byte()`, loses some of them; rounding loses none."""
    pixels = torch.arange(256, dtype=torch.uint8)
    signals = from_uint8(pixels)
    assert torch.equal(to_uint8(signals), pixels)
    assert torch.equal(to_uint8(signals.double()), pixels)
    assert not torch.equal(((signals + 1) / 2 * 255).byte(), pixels)


def test_signals_are_rounded_to_the_nearest_level_and_clamped() -> None:
    signals = torch.tensor([-7.0, -1.0, (100.4 / 127.5) - 1, (100.6 / 127.5) - 1, 1.0, 1.01])
    assert to_uint8(signals).tolist() == [0, 0, 100, 101, 255, 255]
    for bad in (math.nan, math.inf):
        with pytest.raises(NonFiniteError, match="not finite"):
            to_uint8(torch.tensor([[0.0, bad]]))


def test_psnr_is_the_closed_form_image_by_image() -> None:
    signals = torch.full((3, 1, 4, 4), 100, dtype=torch.uint8)
    reconstructed = signals.clone()
    reconstructed[0] += 5
    reconstructed[1, 0, 0, 0] += 80
    found = psnr(from_uint8(reconstructed), from_uint8(signals))
    expected = [10 * math.log10(255**2 / 25), 10 * math.log10(255**2 / (6400 / 16)), CAP]
    assert found.tolist() == pytest.approx(expected, rel=1e-12)


def test_psnr_is_that_of_torchmetrics_on_each_image() -> None:
    generator = torch.Generator().manual_seed(0)
    one, two = (torch.randint(256, (4, 3, 8, 8), generator=generator, dtype=torch.uint8) for _ in range(2))
    expected = [float(peak_signal_noise_ratio(a.float(), b.float(), data_range=255.0)) for a, b in zip(one, two, strict=True)]
    assert psnr(from_uint8(one), from_uint8(two)).tolist() == pytest.approx(expected, rel=1e-5)


def test_values_beyond_the_range_count_as_its_end() -> None:
    assert psnr(torch.full((1, 1, 4), 3.0), torch.ones(1, 1, 4)).tolist() == [CAP]


def test_shapes_must_agree() -> None:
    with pytest.raises(ShapeError, match="one shape"):
        psnr(torch.zeros(2, 1, 4, 4), torch.zeros(1, 1, 4, 4))


def test_a_higher_psnr_is_better_and_says_how_it_was_rounded() -> None:
    key = psnr_key("ab", "test")
    assert key.higher_is_better
    assert dict(key.protocol)["rounding"] == "8 bits, nearest"
