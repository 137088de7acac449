"""The patch discriminator: what each logit sees, how many parameters there are, what its norms imply."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dvgen.config import structure
from dvgen.errors import ConfigError, ShapeError
from dvgen_vqgan.patchgan import NORMS, PatchGAN


def patchgan(inputs: int = 3, **fields: Any) -> PatchGAN:
    """For images of `inputs` channels."""
    torch.manual_seed(0)
    return PatchGAN(PatchGAN.Config(**fields), channels=inputs)


def receptive_field(layers: int) -> tuple[int, int, int]:
    """Width of a logit's patch, distance of two patches, and pixels of the first patch before the image.

    From the last convolution to the first: width -> stride * (width - 1) + 4, offset -> stride * offset + padding.
    """
    width, distance, offset = 1, 1, 0
    for stride in [1, 1] + [2] * layers:
        width, distance, offset = stride * (width - 1) + 4, stride * distance, stride * offset + 1
    return width, distance, offset


def test_three_layers_see_seventy_pixels() -> None:
    """Isola et al. 2017, appendix: 16 x 16, 34 x 34 and 70 x 70 for one, two and three layers."""
    assert [receptive_field(layers)[0] for layers in (1, 2, 3)] == [16, 34, 70]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_logit_sees_exactly_its_patch(layers: int) -> None:
    """The pixels with a gradient, all of them, are those of the closed form."""
    width, distance, offset = receptive_field(layers)
    model = patchgan(layers=layers, channels=2, norm="none").double()
    images = torch.randn(1, 3, 128, 112, dtype=torch.float64, requires_grad=True)
    logits = model(images)
    row, column = (n // 2 for n in logits.shape[2:])
    model(images)[0, 0, row, column].backward()
    assert images.grad is not None
    seen = images.grad.abs().sum(dim=(0, 1)) > 0
    expected = torch.zeros_like(seen)
    top, left = row * distance - offset, column * distance - offset
    expected[top : top + width, left : left + width] = True
    assert 0 < top < top + width < 128
    assert torch.equal(seen, expected)


@pytest.mark.parametrize(("layers", "size"), [(1, (6, 11)), (2, (12, 31)), (3, (24, 33)), (3, (32, 256)), (4, (64, 48))])
def test_the_number_of_patches_is_the_one_that_is_promised(layers: int, size: tuple[int, int]) -> None:
    logits = patchgan(layers=layers, channels=2)(torch.zeros(2, 3, *size))
    assert logits.shape == (2, 1, *(n // 2**layers - 2 for n in size))


def by_hand(inputs: int, layers: int, width: int, *, norm: bool) -> int:
    """4 x 4 weights; a bias where no norm follows, else two parameters of the norm."""
    widths = [inputs] + [width * min(2**i, 8) for i in range(layers + 1)] + [1]
    total = 0
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
        normed = norm and 0 < i < len(widths) - 2
        total += 16 * a * b + (2 * b if normed else b)
    return total


def normed(x: Tensor, weight: Tensor, bias: Tensor, norm: str) -> Tensor:
    """(x - mean) / deviation over what the norm looks at: a channel of the batch, four channels or one of an image."""
    b, c, h, w = x.shape
    size = {"group": 4, "instance": 1, "batch": 1}[norm]
    parts = x.view(b, c // size, size, h, w)
    seen = (0, 2, 3, 4) if norm == "batch" else (2, 3, 4)
    mean, variance = parts.mean(seen, keepdim=True), parts.var(seen, keepdim=True, correction=0)
    standard = (parts - mean) / (variance + (1e-6 if norm == "group" else 1e-5)).sqrt()
    return standard.view(b, c, h, w) * weight.view(c, 1, 1) + bias.view(c, 1, 1)


@pytest.mark.parametrize("norm", sorted(NORMS))
def test_logits_are_the_formula_of_pix2pix(norm: str) -> None:
    """4x4 convolutions of strides 2, 2, 1, 1; norms on all but the first and the last; a fifth of what is negative."""
    model = patchgan(layers=2, channels=8, norm=norm).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    images = torch.randn(3, 3, 16, 20, dtype=torch.float64)
    state = dict(model.named_parameters())
    names = sorted({int(name.split(".")[1]) for name in state})
    kernels = [i for i in names if state[f"layers.{i}.weight"].ndim == 4]
    x = images
    for i, stride in zip(kernels, [2, 2, 1, 1], strict=True):
        x = F.conv2d(x, state[f"layers.{i}.weight"], state.get(f"layers.{i}.bias"), stride=stride, padding=1)
        if norm != "none" and i not in (kernels[0], kernels[-1]):
            x = normed(x, state[f"layers.{i + 1}.weight"], state[f"layers.{i + 1}.bias"], norm)
        if i != kernels[-1]:
            x = torch.where(x < 0, x / 5, x)
    torch.testing.assert_close(model(images), x, rtol=1e-9, atol=1e-9)


def test_the_parameters_are_those_of_the_original() -> None:
    """pix2pix's code prints 2.769 million for a discriminator of six channels; with three, as in VQGAN, it has fewer.

    By hand, for three channels: 3136 + 131072 + 256 + 524288 + 512 + 2097152 + 1024 + 8193.
    """

    def counted(model: nn.Module) -> int:
        return sum(p.numel() for p in model.parameters())

    assert counted(patchgan(6)) == 2_768_705
    assert counted(patchgan(3)) == 2_765_633
    for fields in ({"layers": 5, "channels": 6}, {"layers": 1, "channels": 8}, {"layers": 2, "channels": 8}):
        for norm in NORMS:
            expected = by_hand(3, fields["layers"], fields["channels"], norm=norm != "none")
            assert counted(patchgan(3, norm=norm, **fields)) == expected


def test_first_weights_are_drawn_as_in_the_papers() -> None:
    """Convolutions N(0, 0.02^2), norms N(1, 0.02^2), biases 0: means and deviations within five standard errors."""
    for norm in NORMS:
        for module in patchgan(norm=norm).modules():
            if isinstance(module, nn.Sequential | nn.LeakyReLU | nn.Identity | PatchGAN):
                continue
            weight, centre = module.weight.detach().double(), 0.0 if isinstance(module, nn.Conv2d) else 1.0
            error = 0.02 / math.sqrt(weight.numel())
            assert abs(weight.mean() - centre) < 5 * error
            assert abs(weight.std() - 0.02) < 5 * error
            assert module.bias is None or not module.bias.any()


@pytest.mark.parametrize("norm", sorted(NORMS))
def test_only_batch_norm_lets_images_see_each_other(norm: str) -> None:
    """In training; in evaluation no logit depends on its batch."""
    model = patchgan(layers=2, channels=8, norm=norm)
    images = torch.randn(3, 3, 16, 16)
    images[2] *= 5
    together, alone = model(images), torch.cat([model(image) for image in images.split(1)])
    assert torch.allclose(together, alone, rtol=1e-4, atol=1e-6) == (norm != "batch")
    model.eval()
    torch.testing.assert_close(model(images), torch.cat([model(image) for image in images.split(1)]), rtol=1e-4, atol=1e-6)


def test_norms_stand_where_the_paper_puts_them() -> None:
    """None after the first convolution, none after the last; groups divide widths that are no multiple of 32."""
    for norm, kind in (("batch", nn.BatchNorm2d), ("group", nn.GroupNorm), ("instance", nn.InstanceNorm2d)):
        layers = [type(layer) for layer in patchgan(layers=2, channels=12, norm=norm).layers]
        block = [nn.Conv2d, kind, nn.LeakyReLU]
        assert layers == [nn.Conv2d, nn.LeakyReLU, *block, *block, nn.Conv2d]
    groups = [
        layer.num_groups for layer in patchgan(layers=2, channels=12, norm="group").layers if isinstance(layer, nn.GroupNorm)
    ]
    assert groups == [6, 12]  # of four channels each, as everywhere in this plugin: a group of one would lose its mean


@pytest.mark.parametrize("norm", sorted(NORMS))
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_images_too_small_are_refused_by_name_and_the_smallest_are_taken(norm: str, layers: int) -> None:
    """One image of the smallest size, in training: the norms have more than one value to look at even there."""
    model = patchgan(1, layers=layers, channels=2, norm=norm)
    least = 3 * 2**layers
    assert model(torch.randn(1, 1, least, least)).shape == (1, 1, 1, 1)
    with pytest.raises(ShapeError, match=rf"layers = {layers} .* {least} x {least}, got {least} x {least - 1}; lower .*layers"):
        model(torch.zeros(1, 1, least, least - 1))


@pytest.mark.parametrize("shape", [(2, 3, 64), (2, 1, 64, 64), (3, 64, 64), (2, 3, 8, 64, 64)])
def test_what_is_no_image_of_these_channels_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"images \(b, 3, h, w\) and nothing else"):
        patchgan(channels=2)(torch.zeros(shape))


def test_weight_decay_spares_norms_and_biases_and_nothing_is_left_out() -> None:
    model = patchgan(layers=2, channels=4)
    decayed, spared = (group["params"] for group in model.parameter_groups())
    assert [p.ndim for p in decayed] == [4] * 4
    assert model.parameter_groups()[1]["weight_decay"] == 0.0
    assert {id(p) for p in [*decayed, *spared]} == {id(p) for p in model.parameters()}
    assert len(decayed) + len(spared) == len(list(model.parameters()))


def test_width_scales_and_stays_positive() -> None:
    config = PatchGAN.Config(layers=2, channels=64, norm="group")
    assert PatchGAN.scaled(config, 0.5) == PatchGAN.Config(layers=2, channels=32, norm="group")
    assert PatchGAN.scaled(config, 1e-9).channels == 1
    assert PatchGAN(PatchGAN.tiny(), channels=1)(torch.zeros(2, 1, 8, 8)).shape == (2, 1, 2, 2)


@pytest.mark.parametrize("fields", [{"layers": 0}, {"layers": 9}, {"channels": 0}, {"norm": "layer"}])
def test_fields_out_of_range_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(fields))):
        structure(fields, PatchGAN.Config)
