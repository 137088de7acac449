"""VQGAN's encoder and decoder: the layers against formulas written out, the network against its published size and shape."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dvgen.config import structure
from dvgen.errors import ConfigError
from dvgen_vqgan.attention import Attention
from dvgen_vqgan.decoder import VQGANDecoder
from dvgen_vqgan.encoder import VQGANEncoder
from dvgen_vqgan.pyramid import Pyramid
from dvgen_vqgan.resnet import Downsample, ResNetBlock, Upsample, group_norm

SMALL: dict[str, Any] = {"channels": 8, "multipliers": (1, 2, 2), "blocks": 1, "attention": (4,), "z_channels": 6}


def pair(channels: int = 3, dim: int = 5, **fields: Any) -> tuple[VQGANEncoder, VQGANDecoder]:
    """Both halves of one config in float64."""
    torch.manual_seed(0)
    config = Pyramid(**SMALL | fields)
    encoder, decoder = (half(config, channels=channels, dims=(dim,)).double() for half in (VQGANEncoder, VQGANDecoder))
    return encoder, decoder


def shaken(module: nn.Module) -> nn.Module:
    """In float64, with norms that are not the identity."""
    torch.manual_seed(0)
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, 0.2, 0.5)
    return module


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def normed(x: Tensor, norm: nn.GroupNorm, groups: int) -> Tensor:
    """Each group of channels of each image at mean 0 and variance 1, then scaled and shifted channel by channel."""
    centred = x.unflatten(1, (groups, -1))
    centred = centred - centred.mean(dim=(2, 3, 4), keepdim=True)
    variance = (centred**2).mean(dim=(2, 3, 4), keepdim=True)
    return (centred / torch.sqrt(variance + 1e-6)).flatten(1, 2) * norm.weight[:, None, None] + norm.bias[:, None, None]


def convolved(x: Tensor, convolution: nn.Conv2d, stride: int = 1, before: int = 1) -> Tensor:
    """A 3x3 convolution as the sum over its nine taps; beyond the edges x is 0, and `before` is where the first tap stands."""
    height, width = (side // stride for side in x.shape[2:])
    padded = F.pad(x, (before, 2, before, 2))
    out = torch.zeros(x.shape[0], convolution.out_channels, height, width, dtype=x.dtype)
    for i in range(3):
        for j in range(3):
            seen = padded[:, :, i : i + stride * height : stride, j : j + stride * width : stride]
            out += torch.einsum("bchw,oc->bohw", seen, convolution.weight[:, :, i, j])
    return out + convolution.bias[:, None, None]


@pytest.mark.parametrize(("incoming", "outgoing"), [(8, 8), (8, 12), (12, 8)])
def test_a_residual_block_is_twice_norm_swish_convolution(incoming: int, outgoing: int) -> None:
    """x + f(x), with a 1x1 convolution of x where the widths differ, in float64 from single sums."""
    block, x = shaken(ResNetBlock(incoming, outgoing)), normal(2, incoming, 4, 6)
    inner = x
    for part in (block.first, block.second):
        inner = normed(inner, part[0], groups=part[0].num_channels // 4)
        inner = convolved(inner / (1 + torch.exp(-inner)), part[-1])
    kept = x
    if incoming != outgoing:
        kept = torch.einsum("bchw,oc->bohw", x, block.shortcut.weight[:, :, 0, 0]) + block.shortcut.bias[:, None, None]
    torch.testing.assert_close(block(x), kept + inner)


def test_attention_is_one_softmax_over_all_positions() -> None:
    """Position by position: softmax over the products of its query with every key, divided by the root of the width."""
    attention, x = shaken(Attention(8)), normal(2, 8, 3, 4)
    weight, bias = attention.qkv.weight[:, :, 0, 0], attention.qkv.bias
    expected = x.clone()
    for image, features in enumerate(normed(x, attention.norm, groups=2)):
        query, keys, values = (weight @ features.flatten(1) + bias[:, None]).split(8)
        for place in range(12):
            scores = torch.stack([query[:, place] @ keys[:, other] for other in range(12)]) / math.sqrt(8)
            shares = scores.exp() / scores.exp().sum()
            out = attention.project.weight[:, :, 0, 0] @ (values @ shares) + attention.project.bias
            expected[image, :, place // 4, place % 4] += out
    torch.testing.assert_close(attention(x), expected)


def test_halving_starts_at_the_first_pixel_and_pads_behind_the_last() -> None:
    """Output (i, j) sees input rows 2i to 2i + 2 and columns 2j to 2j + 2: no zeros above or on the left."""
    halving, x = shaken(Downsample(3)), normal(2, 3, 6, 8)
    torch.testing.assert_close(halving(x), convolved(x, halving.convolution, stride=2, before=0))


def test_doubling_repeats_every_element_and_convolves() -> None:
    doubling, x = shaken(Upsample(3)), normal(2, 3, 3, 4)
    repeated = torch.stack([x[:, :, i // 2, j // 2] for i in range(6) for j in range(8)], dim=2).unflatten(2, (6, 8))
    torch.testing.assert_close(doubling(x), convolved(repeated, doubling.convolution))


def test_norms_have_32_groups_where_the_published_networks_have_them() -> None:
    """And never one channel a group, which would make every channel's mean, and so brightness, vanish."""
    assert [group_norm(width).num_groups for width in (128, 256, 512)] == [32, 32, 32]
    assert [group_norm(width).num_groups for width in (1, 2, 3, 4, 7, 8, 12, 16, 30, 100)] == [1, 1, 1, 1, 1, 2, 3, 4, 6, 25]
    assert all(width // group_norm(width).num_groups > 1 for width in range(2, 300))


@pytest.mark.parametrize(
    ("fields", "encoder", "decoder"),
    [({}, 29_363_968, 42_515_587), ({"multipliers": (1, 1, 2, 4), "attention": (8,)}, 26_411_520, 38_381_955)],
    ids=["f16", "f8"],
)
def test_parameters_are_those_of_the_released_networks(fields: dict[str, Any], encoder: int, decoder: int) -> None:
    """CompVis/taming-transformers at 3ba01b2, built and counted with its own classes: configs/imagenet_vqgan.yaml (f16, 1024
    codes), and the config of the released f8 model with 8192 Gumbel-softmax codes. With quant_conv and post_quant_conv.
    """
    with torch.device("meta"):
        halves = [half(Pyramid(**fields), channels=3, dims=(256,)) for half in (VQGANEncoder, VQGANDecoder)]
    assert [sum(p.numel() for p in half.parameters()) for half in halves] == [encoder, decoder]


@pytest.mark.parametrize("factor", [1, 2, 4, 8, 16])
def test_a_code_spans_as_many_pixels_as_the_multipliers_say(factor: int) -> None:
    levels = factor.bit_length()
    encoder, decoder = pair(multipliers=(1,) * levels, attention=(factor,), channels=1)
    size = (2 * factor, 3 * factor)
    (features,) = encoder(normal(2, 1, *size))
    assert encoder.grids(size) == ((2, 3),)
    assert features.shape == (2, 5, 2, 3)
    assert decoder((features,)).shape == (2, 1, *size)


def sides_at_attention(model: nn.Module, given: Any) -> list[int]:
    """The side of the map that each attention sees, in order."""
    sides: list[int] = []
    for module in model.modules():
        if isinstance(module, Attention):
            module.register_forward_hook(lambda _, inputs, output: sides.append(output.shape[3]))
    model(given)
    return sides


def test_attention_stands_behind_every_block_of_its_resolutions_and_in_the_middle() -> None:
    """Of a 32-pixel image the factors 2 and 8 are sides 16 and 4; the decoder has one block a resolution more."""
    encoder, decoder = pair(multipliers=(1, 1, 1, 1), blocks=2, attention=(2, 8))
    assert sides_at_attention(encoder, normal(1, 3, 32, 32)) == [16, 16, 4, 4, 4]
    assert sides_at_attention(decoder, (normal(1, 5, 4, 4),)) == [4, 4, 4, 4, 16, 16, 16]


def test_widths_follow_the_multipliers() -> None:
    """Table 7: the encoder's widths from full size down, the decoder's back, the coarsest also in the middle."""
    encoder, decoder = pair(multipliers=(1, 2, 3), attention=())
    outgoing = [
        [m.second[-1].out_channels for m in half.modules() if isinstance(m, ResNetBlock)] for half in (encoder, decoder)
    ]
    assert outgoing == [[8, 16, 24, 24, 24], [24, 24, 24, 24, 16, 16, 8, 8]]


def test_every_parameter_and_every_place_is_of_use() -> None:
    encoder, decoder = pair()
    signals, vectors = normal(1, 3, 16, 16).requires_grad_(), normal(1, 5, 4, 4).requires_grad_()
    (features,) = encoder(signals)
    (features * normal(*features.shape)).sum().backward()
    made = decoder((vectors,))
    (made * normal(*made.shape)).sum().backward()
    for half in (encoder, decoder):
        for name, parameter in half.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name
    for given in (signals, vectors):
        assert given.grad is not None
        assert (given.grad.abs().sum(dim=1) > 0).all()


def test_no_image_sees_another_of_its_batch() -> None:
    """In training too: nothing is normalised over the batch."""
    encoder, decoder = pair()
    signals, vectors = normal(3, 3, 16, 16), normal(3, 5, 4, 4)
    torch.testing.assert_close(encoder(signals)[0][1:2], encoder(signals[1:2])[0])
    torch.testing.assert_close(decoder((vectors,))[1:2], decoder((vectors[1:2],)))


def test_the_last_layer_makes_the_image() -> None:
    """Without it nothing but its bias is left, so the adaptive weight is measured at the right place."""
    _, decoder = pair()
    assert decoder.last_layer.shape == (3, 8, 3, 3)
    with torch.no_grad():
        decoder.last_layer.zero_()
    expected = decoder.last.bias[None, :, None, None].expand(1, 3, 16, 16)
    torch.testing.assert_close(decoder((normal(1, 5, 4, 4),)), expected)


def test_dropout_stands_in_every_residual_block_and_only_in_training() -> None:
    for half, given in zip(pair(dropout=0.5), (normal(1, 3, 16, 16), (normal(1, 5, 4, 4),)), strict=True):
        blocks = [module for module in half.modules() if isinstance(module, ResNetBlock)]
        assert [[layer.p for layer in m.second if isinstance(layer, nn.Dropout)] for m in blocks] == [[0.5]] * len(blocks)
        assert not torch.equal(half(given)[0], half(given)[0])
        half.eval()
        assert torch.equal(half(given)[0], half(given)[0])


def test_every_parameter_stands_in_one_group_and_only_kernels_decay() -> None:
    for half in pair():
        groups = half.parameter_groups()
        assert sorted(id(p) for group in groups for p in group["params"]) == sorted(id(p) for p in half.parameters())
        decayed = {id(p) for group in groups if "weight_decay" not in group for p in group["params"]}
        assert decayed == {id(m.weight) for m in half.modules() if isinstance(m, nn.Conv2d)}


def test_a_scaled_network_can_still_be_normalised_in_groups_of_four() -> None:
    scaled = VQGANEncoder.scaled(Pyramid(), 0.3)
    assert scaled.channels == 40  # 38.4, to a multiple of 4
    assert scaled == VQGANDecoder.scaled(Pyramid(), 0.3)


@pytest.mark.parametrize("size", [(30, 32), (32, 30), (2, 32), (32,), (32, 32, 32)])
def test_a_size_that_cannot_be_divided_is_refused_by_name(size: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"encoder\.multipliers: .*cannot be divided by 4; .*fewer multipliers"):
        pair()[0].grids(size)


def test_lists_of_a_file_become_tuples() -> None:
    config = structure({"multipliers": [1, 2, 4], "attention": [2, 4]}, Pyramid)
    assert (config.multipliers, config.attention, config.factor) == ((1, 2, 4), (2, 4), 4)
    assert structure({"attention": []}, Pyramid).attention == ()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"multipliers": [1, 2]}, "names factors that 2 multipliers do not have: 16; they have 1, 2"),
        ({"attention": [3]}, "do not have: 3; they have 1, 2, 4, 8, 16"),
        ({"multipliers": [1, 0]}, "multipliers: "),
        ({"multipliers": [1, 2.5]}, "multipliers: expected int, got 2.5"),
        ({"attention": "16"}, "attention: expected a list, got '16'"),
        ({"dropout": 1.0}, "dropout: "),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        structure(table, Pyramid, "encoder")
    assert message in str(caught.value)


@pytest.mark.parametrize("half", [VQGANEncoder, VQGANDecoder])
def test_several_quantizers_are_refused(half: type) -> None:
    with pytest.raises(ConfigError, match="vqgan makes one map and takes one quantizer, not 2"):
        half(Pyramid(**SMALL), channels=3, dims=(4, 4))
