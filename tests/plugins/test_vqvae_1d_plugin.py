"""VQ-VAE over one axis: sound to one map and back, by the same rules as images."""

import pytest
import torch
from torch import nn

from dvgen.config import structure
from dvgen.errors import ConfigError
from dvgen_vqvae.encoder import VQVAEEncoder
from dvgen_vqvae.waves import WaveDecoder, WaveEncoder

SMALL = {"channels": 8, "residual_channels": 4, "residual_blocks": 2}


def pair(downsample: int = 8, channels: int = 1) -> tuple[WaveEncoder, WaveDecoder]:
    torch.manual_seed(0)
    encoder = WaveEncoder(WaveEncoder.Config(**SMALL, downsample=downsample), channels=channels, dims=(5,))
    return encoder, WaveDecoder(WaveDecoder.Config(**SMALL, downsample=downsample), channels=channels, dims=(5,))


@pytest.mark.parametrize("downsample", [1, 2, 8, 64])
@pytest.mark.parametrize("channels", [1, 2])
def test_shapes_are_those_that_grids_announces(downsample: int, channels: int) -> None:
    encoder, decoder = pair(downsample, channels)
    sound = torch.randn(2, channels, 192)
    (grid,) = encoder.grids((192,))
    assert grid == (192 // downsample,)
    (features,) = encoder(sound)
    assert features.shape == (2, 5, *grid)
    assert encoder.condition(0, (features,), ()) is features
    assert decoder((features,)).shape == sound.shape


def test_a_code_stands_for_64_samples_unless_told_otherwise() -> None:
    assert WaveEncoder(WaveEncoder.Config(), channels=1, dims=(3,)).grids((2048,)) == ((32,),)


@pytest.mark.parametrize("size", [(30,), (4,), (0,), (16, 16), ()])
def test_sizes_that_cannot_be_divided_are_refused(size: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"downsample.*expected a length"):
        pair()[0].grids(size)


def test_an_encoder_of_images_refuses_sound() -> None:
    with pytest.raises(ConfigError, match=r"2048.*expected a height and a width.*an encoder for these"):
        VQVAEEncoder(VQVAEEncoder.Config(), channels=1, dims=(3,)).grids((2048,))


@pytest.mark.parametrize("part", [WaveEncoder, WaveDecoder])
def test_configs_and_widths_are_checked(part: type) -> None:
    with pytest.raises(ConfigError, match="power of two"):
        structure({"downsample": 48}, part.Config)
    for dims in ((), (4, 4)):
        with pytest.raises(ConfigError, match="one quantizer"):
            part(part.Config(), channels=1, dims=dims)
    config = part.Config(channels=64, residual_channels=32)
    assert part.scaled(config, 0.5) == part.Config(channels=32, residual_channels=16)
    assert sum(p.numel() for p in part(part.tiny(), channels=1, dims=(3,)).parameters()) < 5000


def test_one_strided_layer_is_the_sum_over_its_four_taps() -> None:
    """Feature i of a layer of stride 2 sees samples 2i - 1 to 2i + 2: the closed form of the first layer, in float64."""
    encoder = pair(2)[0].double()
    first = encoder.layers[0]
    assert isinstance(first, nn.Conv1d)
    sound = torch.randn(1, 1, 16, dtype=torch.float64)
    padded = torch.cat([torch.zeros(1), sound[0, 0], torch.zeros(1)])
    for i in range(8):
        expected = first.weight[:, 0] @ padded[2 * i : 2 * i + 4] + first.bias
        torch.testing.assert_close(first(sound)[0, :, i], expected)


def test_parameters_are_those_counted_by_hand() -> None:
    """Half of the width next to the sound, all of it elsewhere: weights and biases of every layer in order."""
    stack = 2 * ((8 * 4 * 3 + 4) + (4 * 8 + 8))
    encoder = (1 * 4 * 4 + 4) + (4 * 8 * 4 + 8) + (8 * 8 * 4 + 8) + (8 * 8 * 3 + 8) + stack + (8 * 5 + 5)
    decoder = (5 * 8 * 3 + 8) + stack + (8 * 8 * 4 + 8) + (8 * 4 * 4 + 4) + (4 * 1 * 4 + 1)
    assert [sum(p.numel() for p in half.parameters()) for half in pair()] == [encoder, decoder]


@pytest.mark.parametrize("downsample", [2, 8])
def test_a_code_is_decided_by_the_sound_around_it_and_reaches_the_sound_around_it(downsample: int) -> None:
    """Both nets keep time: the middle of the sound and the middle code belong together, and far ends do not touch."""
    encoder, decoder = pair(downsample)
    middle = 64
    sound = torch.randn(1, 1, 128 * downsample, requires_grad=True)
    (features,) = encoder(sound)
    features[0, :, middle].sum().backward()
    touched = sound.grad[0, 0].nonzero().flatten()
    centre = (middle + 0.5) * downsample
    assert touched.min() < centre < touched.max()
    assert abs((touched.min() + touched.max()) / 2 + 0.5 - centre) <= downsample
    assert touched.max() - touched.min() < 64 * downsample
    vectors = features.detach().requires_grad_()
    decoder((vectors,))[0, 0, int(centre)].backward()
    reached = vectors.grad.abs().sum(1)[0].nonzero().flatten()
    assert reached.min() <= middle <= reached.max()
    assert reached.max() - reached.min() < 64


@pytest.mark.parametrize("downsample", [1, 2, 8])
def test_every_parameter_gets_a_gradient(downsample: int) -> None:
    encoder, decoder = pair(downsample)
    sound = torch.randn(4, 1, 64)
    (decoder(encoder(sound)) - sound).square().mean().backward()
    for part in (encoder, decoder):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name
            assert (parameter.grad != 0).any(), name


def test_sounds_of_a_batch_do_not_touch_each_other() -> None:
    encoder, decoder = pair()
    sound = torch.randn(3, 1, 64)
    together, alone = decoder(encoder(sound)), torch.cat([decoder(encoder(one)) for one in sound.split(1)])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("downsample", [1, 4])
def test_last_layer_makes_the_sound_and_is_saved_once(downsample: int) -> None:
    _, decoder = pair(downsample)
    with torch.no_grad():
        decoder.last_layer.zero_()
    assert decoder((torch.randn(2, 5, 4),)).std(dim=(0, 2)) < 1e-6
    saved = [name for name, value in decoder.state_dict().items() if value.data_ptr() == decoder.last_layer.data_ptr()]
    assert saved == ["last.weight"]
