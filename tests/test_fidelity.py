"""Structural similarity and LPIPS are the published numbers, image by image, and each signal has the measures it can have."""

import hashlib
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_components import NoiseDataset

from dvgen.blocks.lpips_network import TRUNKS
from dvgen.errors import DataError, ShapeError
from dvgen.evaluation.fidelity import fidelity_of
from dvgen.evaluation.perceptual import LPIPS
from dvgen.evaluation.reconstruction import from_uint8, psnr, ssim, ssim_key, to_uint8


def images(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return from_uint8(torch.randint(256, shape, generator=generator, dtype=torch.uint8))


def window() -> list[list[float]]:
    weights = [math.exp(-(x**2) / (2 * 1.5**2)) for x in range(-5, 6)]
    return [[a * b / sum(weights) ** 2 for b in weights] for a in weights]


def mirrored(i: int, size: int) -> int:
    return -i if i < 0 else 2 * (size - 1) - i if i >= size else i


def ssim_by_pixels(x: Tensor, y: Tensor) -> float:
    """Wang et al. 2004, equation 13, of one grey image in [0, 1], window by window, in float64."""
    h, w = x.shape
    pixels = [x.tolist(), y.tolist()]
    values = []
    for i in range(h):
        for j in range(w):
            places = [
                (weight, mirrored(i + u - 5, h), mirrored(j + v - 5, w))
                for u, row in enumerate(window())
                for v, weight in enumerate(row)
            ]
            patches = [[(weight, image[a][b]) for weight, a, b in places] for image in pixels]
            means = [sum(weight * value for weight, value in patch) for patch in patches]
            spread = [sum(k * v * v for k, v in patch) - mean**2 for patch, mean in zip(patches, means, strict=True)]
            joint = sum(k * a * b for (k, a), (_, b) in zip(*patches, strict=True)) - means[0] * means[1]
            c1, c2 = 0.01**2, 0.03**2
            top = (2 * means[0] * means[1] + c1) * (2 * joint + c2)
            values.append(top / ((means[0] ** 2 + means[1] ** 2 + c1) * (sum(spread) + c2)))
    return sum(values) / len(values)


def test_ssim_is_the_definition_image_by_image() -> None:
    one = images(2, 1, 12, 11)
    two = torch.stack([images(1, 12, 11, seed=1), one[1] * 0.5])
    found = ssim(two, one)
    rounded = [to_uint8(side).double()[:, 0] / 255 for side in (two, one)]
    expected = [ssim_by_pixels(x, y) for x, y in zip(*rounded, strict=True)]
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(expected, abs=2e-5)


def test_ssim_of_constant_images_has_a_closed_form_and_its_range_is_one() -> None:
    """(2 a b + c1) / (a^2 + b^2 + c1); the range is not that of the values in an image, which would be 0 here."""
    a, b = 51, 204
    grey = from_uint8(torch.full((1, 3, 16, 16), a, dtype=torch.uint8))
    light = from_uint8(torch.full((1, 3, 16, 16), b, dtype=torch.uint8))
    x, y = a / 255, b / 255
    assert float(ssim(light, grey)) == pytest.approx((2 * x * y + 1e-4) / (x**2 + y**2 + 1e-4), abs=1e-3)
    assert float(ssim(grey, grey)) == 1


def test_ssim_of_colour_is_the_mean_over_channels_and_rounds_first() -> None:
    one, two = images(3, 3, 16, 14), images(3, 3, 16, 14, seed=1)
    separate = torch.stack([ssim(two[:, i : i + 1], one[:, i : i + 1]) for i in range(3)])
    torch.testing.assert_close(ssim(two, one), separate.mean(dim=0), rtol=1e-6, atol=1e-7)
    assert torch.equal(ssim(two + 0.003, one), ssim(two, one))
    assert ssim_key("ab", "test").higher_is_better


def test_images_too_small_for_the_window_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"at least 11 x 11, got \(1, 1, 10, 16\)"):
        ssim(images(1, 1, 10, 16), images(1, 1, 10, 16))
    with pytest.raises(ShapeError, match="one shape"):
        ssim(images(1, 1, 16, 16), images(2, 1, 16, 16))


# ------------------------------------------------------------------------------------------ LPIPS


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Random weights of AlexNet in the folder of weights, under a name that ends in their hash."""
    from torchvision.models import alexnet

    with torch.device("meta"):
        shapes = {f"features.{name}": tuple(value.shape) for name, value in alexnet().features.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    table = {
        name: torch.randn(shape, generator=generator) * (2 / math.prod(shape[1:])) ** 0.5 for name, shape in shapes.items()
    }
    torch.save(table, tmp_path / "new")
    name = f"alexnet-{hashlib.sha256((tmp_path / 'new').read_bytes()).hexdigest()[:8]}.pth"
    (tmp_path / "new").rename(tmp_path / name)
    monkeypatch.setenv("DVGEN_WEIGHTS", str(tmp_path))
    monkeypatch.setitem(TRUNKS, "alex", TRUNKS["alex"]._replace(file=name))
    return table


def package(table: dict[str, Tensor]) -> Any:
    """The network of torchmetrics, its own copy of the linear weights, and these."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchmetrics.functional.image.lpips import _LPIPS

        network = _LPIPS(net="alex", pnet_rand=True)
    names = {name: f"features.{name.partition('.')[2]}" for name in network.net.state_dict()}
    network.net.load_state_dict({name: table[there] for name, there in names.items()})
    return network


@pytest.mark.parametrize("channels", [1, 3])
def test_lpips_is_that_of_torchmetrics_image_by_image(weights: dict[str, Tensor], channels: int) -> None:
    one, two = images(3, channels, 40, 36), images(3, channels, 40, 36, seed=1)
    found = LPIPS((40, 36))(two, one)
    with torch.no_grad():
        expected = package(weights)(two.expand(-1, 3, -1, -1), one.expand(-1, 3, -1, -1)).flatten()
    assert found.shape == (3,)
    torch.testing.assert_close(found, expected.double(), rtol=1e-4, atol=1e-6)
    assert float(LPIPS((40, 36))(one, one).abs().max()) == 0


def test_small_images_are_padded_by_their_edges_and_the_key_says_so(weights: dict[str, Tensor]) -> None:
    """AlexNet takes none below 31; 31 x 28 becomes 31 x 32."""
    one, two = images(2, 1, 31, 28), images(2, 1, 31, 28, seed=1)
    padded = [torch.cat([side[..., :1]] * 2 + [side] + [side[..., -1:]] * 2, dim=3) for side in (two, one)]
    small = LPIPS((31, 28))
    torch.testing.assert_close(small(two, one), LPIPS((31, 32))(*padded), rtol=1e-6, atol=1e-8)
    assert dict(small.key("ab", "test").protocol)["padding"] == "edges, to 32 across"
    assert dict(LPIPS((31, 32)).key("ab", "test").protocol)["padding"] == "none"
    with pytest.raises(ShapeError, match=r"31, 28\), got \(2, 1, 31, 32\)"):
        small(*padded)


# ------------------------------------------------------------------------------------------ what a set of signals has


def test_images_have_ssim_from_11_pixels_on_and_lpips_when_its_weights_are_there(
    weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one, two = images(2, 1, 16, 16), images(2, 1, 16, 16, seed=1)
    known = fidelity_of(NoiseDataset(shape=(1, 16, 16)))
    values = known.measures(two, one)
    assert set(values) == {"psnr", "ssim", "lpips"}
    assert torch.equal(values["psnr"], psnr(two, one))
    found = known.measurements(values, "ab", "test")
    assert [found[name].key.higher_is_better for name in ("psnr", "ssim", "lpips")] == [True, True, False]
    assert all(one.n == 2 and one.interval is not None for one in found.values())
    assert found["ssim"].value == pytest.approx(float(values["ssim"].mean()))
    assert set(fidelity_of(NoiseDataset(shape=(4, 16, 16))).known) == {"psnr", "ssim"}
    monkeypatch.setenv("DVGEN_WEIGHTS", str(tmp_path / "empty"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    assert set(fidelity_of(NoiseDataset(shape=(1, 16, 16))).known) == {"psnr", "ssim"}
    assert set(fidelity_of(NoiseDataset(shape=(1, 10, 16))).known) == {"psnr"}


def test_damaged_weights_are_a_fault_and_not_absent(weights: dict[str, Tensor], tmp_path: Path) -> None:
    (tmp_path / TRUNKS["alex"].file).write_bytes(b"damaged")
    with pytest.raises(DataError, match="SHA-256"):
        fidelity_of(NoiseDataset(shape=(1, 16, 16)))
