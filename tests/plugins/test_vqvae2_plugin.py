"""VQ-VAE-2: several maps, each finer one quantized in the light of all coarser ones, decoded together."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dvgen.config import structure
from dvgen.discovery import discover
from dvgen.errors import ConfigError, ShapeError
from dvgen.experiment import experiment_from
from dvgen.tokenizer import Tokenizer, assemble_tokenizer
from dvgen_vqvae2.decoder import VQVAE2Decoder
from dvgen_vqvae2.encoder import VQVAE2Encoder

WIDTHS = (3, 5, 4, 6)
SMALL = {"channels": 8, "residual_channels": 4, "residual_blocks": 1}


def pair(maps: int, channels: int = 3, downsample: int = 4, step: int = 2) -> tuple[VQVAE2Encoder, VQVAE2Decoder]:
    """Both halves in float64, every map of another width."""
    torch.manual_seed(maps)
    fields = {**SMALL, "downsample": downsample, "step": step}
    sizes = {"channels": channels, "dims": WIDTHS[:maps]}
    encoder = VQVAE2Encoder(VQVAE2Encoder.Config(maps=maps, **fields), **sizes).double()
    return encoder, VQVAE2Decoder(VQVAE2Decoder.Config(**fields), **sizes).double()


def images(side: int = 32, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, side, side, dtype=torch.float64)


def vectors(encoder: VQVAE2Encoder, maps: int, side: int = 32) -> tuple[Tensor, ...]:
    """Random quantized vectors of every map, with a gradient."""
    grids = encoder.grids((side, side))
    return tuple(
        torch.randn(2, dim, *grid, dtype=torch.float64).requires_grad_() for dim, grid in zip(WIDTHS[:maps], grids, strict=True)
    )


class Weights:
    """The formulas of figure 2a, written out over the tensors of a state_dict, for `downsample` 4, `step` 2 and one block."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def conv(self, x: Tensor, name: str, **how: int) -> Tensor:
        return F.conv2d(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"], **how)

    def up(self, x: Tensor, name: str) -> Tensor:
        return F.conv_transpose2d(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"], stride=2, padding=1)

    def stack(self, x: Tensor, name: str) -> Tensor:
        inner = self.conv(x.clamp(min=0), f"{name}.0.wide", padding=1).clamp(min=0)
        return (x + self.conv(inner, f"{name}.0.narrow")).clamp(min=0)

    def contracted(self, x: Tensor, name: str, halvings: int) -> Tensor:
        for i in range(halvings):
            x = self.conv(x, f"{name}.{2 * i}", stride=2, padding=1).clamp(min=0)
        return self.stack(self.conv(x, f"{name}.{2 * halvings}", padding=1), f"{name}.{2 * halvings + 1}")

    def together(self, maps: tuple[Tensor, ...], name: str) -> Tensor:
        """All maps on the finest grid, side by side, after the stack of a decoder."""
        raised = []
        for i, x in enumerate(maps[:-1]):
            for k in range(len(maps) - 1 - i):
                x = self.up(x.clamp(min=0) if k else x, f"{name}.upsamplings.{i}.{2 * k}")
            raised.append(x)
        x = self.conv(torch.cat([*raised, maps[-1]], dim=1), f"{name}.layers.0", padding=1)
        return self.stack(x, f"{name}.layers.1")


@pytest.mark.parametrize("maps", [2, 3])
def test_what_each_quantizer_sees_is_figure_2a(maps: int) -> None:
    encoder, _ = pair(maps)
    weights, signals, coarser = Weights(encoder.state_dict()), images(), vectors(encoder, maps)
    expected = [weights.contracted(signals, f"contractions.{maps - 1}", 2)]
    for i in reversed(range(maps - 1)):
        expected.insert(0, weights.contracted(expected[0], f"contractions.{i}", 1))
    features = encoder(signals)
    for i, own in enumerate(expected):
        torch.testing.assert_close(features[i], own)
        if i:
            decoded = weights.up(weights.together(coarser[:i], f"decoders.{i - 1}"), f"decoders.{i - 1}.last")
            own = torch.cat([decoded, own], dim=1)
        seen = encoder.condition(i, features, coarser[:i])
        torch.testing.assert_close(seen, weights.conv(own, f"projections.{i}"))


@pytest.mark.parametrize("maps", [2, 3])
def test_the_decoder_is_figure_2a(maps: int) -> None:
    encoder, decoder = pair(maps)
    weights, given = Weights(decoder.state_dict()), vectors(encoder, maps)
    decoded = weights.up(weights.together(given, "maps"), "maps.layers.2").clamp(min=0)
    torch.testing.assert_close(decoder(given), weights.up(decoded, "maps.last"))


@pytest.mark.parametrize("maps", [1, 2, 3, 4])
def test_a_quantizer_sees_its_own_features_and_every_coarser_vector_and_nothing_else(maps: int) -> None:
    encoder, _ = pair(maps)
    features = tuple(feature.detach().requires_grad_() for feature in encoder(images(64)))
    given = vectors(encoder, maps, 64)
    for i in range(maps):
        seen = encoder.condition(i, features, given[:i]).square().sum()
        gradients = torch.autograd.grad(seen, (*features, *given), allow_unused=True)
        of_features, of_vectors = gradients[:maps], gradients[maps:]
        assert [gradient is not None for gradient in of_features] == [j == i for j in range(maps)]
        assert [gradient is not None for gradient in of_vectors] == [j < i for j in range(maps)]
        assert all((gradient.abs().sum(1) > 0).all() for gradient in gradients if gradient is not None)


@pytest.mark.parametrize("maps", [1, 2, 3, 4])
def test_the_decoder_sees_every_position_of_every_map(maps: int) -> None:
    encoder, decoder = pair(maps)
    given = vectors(encoder, maps, 64)
    for gradient in torch.autograd.grad(decoder(given).square().sum(), given):
        assert (gradient.abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize(("downsample", "step"), [(1, 2), (2, 4), (4, 2)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("maps", [1, 2, 3])
def test_shapes_are_those_that_grids_announces(maps: int, channels: int, downsample: int, step: int) -> None:
    encoder, decoder = pair(maps, channels, downsample, step)
    signals = images(32, channels)
    grids = encoder.grids((32, 32))
    assert grids == tuple((32 // (downsample * step**i),) * 2 for i in reversed(range(maps)))
    assert VQVAE2Encoder.maps(encoder.config) == maps
    features, given = encoder(signals), vectors(encoder, maps)
    for i, grid in enumerate(grids):
        assert encoder.condition(i, features, given[:i]).shape == (2, WIDTHS[i], *grid)
    assert decoder(given).shape == signals.shape


@pytest.mark.parametrize("size", [(36, 32), (32, 8), (32,), (32, 32, 32)])
def test_sizes_whose_coarsest_grid_is_not_whole_are_refused(size: tuple[int, ...]) -> None:
    encoder, _ = pair(3)
    assert encoder.grids((32, 48)) == ((2, 3), (4, 6), (8, 12))
    with pytest.raises(ConfigError, match=r"encoder\.downsample.*16"):
        encoder.grids(size)


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 maps take 2 quantizers, not 3"):
        VQVAE2Encoder(VQVAE2Encoder.Config(), channels=3, dims=(4, 4, 4))
    for step in (1, 3):
        with pytest.raises(ConfigError, match="step"):
            structure({"step": step}, VQVAE2Encoder.Config)
    _, decoder = pair(2)
    with pytest.raises(ShapeError, match="grids 2x2, 8x8"):
        decoder((torch.zeros(1, 3, 2, 2).double(), torch.zeros(1, 5, 8, 8).double()))


@pytest.mark.parametrize("maps", [1, 2, 3, 4])
def test_every_parameter_gets_a_gradient(maps: int) -> None:
    encoder, decoder = pair(maps)
    features, given = encoder(images(64)), ()
    for i in range(maps):
        given += (encoder.condition(i, features, given),)
    decoder(given).square().sum().backward()
    for part in (encoder, decoder):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name
            assert (parameter.grad != 0).any(), name


def test_last_layer_makes_the_images_and_is_saved_once() -> None:
    encoder, decoder = pair(2)
    with torch.no_grad():
        decoder.last_layer.zero_()
    assert (decoder(vectors(encoder, 2)).std(dim=(0, 2, 3)) < 1e-12).all()
    saved = [name for name, value in decoder.state_dict().items() if value.data_ptr() == decoder.last_layer.data_ptr()]
    assert saved == ["maps.last.weight"]


def test_parameters_are_those_of_the_public_implementation() -> None:
    """1388867 is what `VQVAE()` of github.com/rosinality/vq-vae-2-pytorch (ef5f67c, vqvae.py) has, by its `parameters()`.

    Below, the same by hand: k * k * in * out + out for each convolution.
    """
    encoder = VQVAE2Encoder(VQVAE2Encoder.Config(), channels=3, dims=(64, 64))
    decoder = VQVAE2Decoder(VQVAE2Decoder.Config(), channels=3, dims=(64, 64))
    stack = 2 * ((9 * 128 * 32 + 32) + (32 * 128 + 128))
    bottom = (16 * 3 * 64 + 64) + (16 * 64 * 128 + 128) + (9 * 128 * 128 + 128) + stack
    top = (16 * 128 * 64 + 64) + (9 * 64 * 128 + 128) + stack
    projections = (128 * 64 + 64) + (192 * 64 + 64)
    conditional = (9 * 64 * 128 + 128) + stack + (16 * 128 * 64 + 64)
    raised = 16 * 64 * 64 + 64
    image = (9 * 128 * 128 + 128) + stack + (16 * 128 * 64 + 64) + (16 * 64 * 3 + 3)
    count = sum(p.numel() for part in (encoder, decoder) for p in part.parameters())
    assert count == 1388867 == bottom + top + projections + conditional + raised + image


@pytest.mark.parametrize("part", [VQVAE2Encoder, VQVAE2Decoder])
def test_scaled_and_tiny_configs(part: type) -> None:
    config = part.Config(step=4)
    assert part.scaled(config, 0.5) == part.Config(channels=64, residual_channels=16, step=4)
    assert part.tiny().channels < 10


def tokenizer(maps: int) -> Tokenizer:
    """Encoder, one ema quantizer a map, and decoder, as a file names them."""
    half = {"use": "vqvae2", **SMALL}
    quantizers = [{"use": "ema", "num_codes": 6 + i, "dim": WIDTHS[i]} for i in range(maps)]
    table = {"encoder": {**half, "maps": maps}, "quantizer": quantizers, "decoder": half}
    torch.manual_seed(0)
    return assemble_tokenizer(discover().registry, experiment_from(table), (3, 32, 32))


@pytest.mark.parametrize(("maps", "names"), [(2, ("top", "bottom")), (3, ("top", "middle", "bottom"))])
def test_a_tokenizer_encodes_and_decodes_as_it_reconstructs(maps: int, names: tuple[str, ...]) -> None:
    """Codes of the finer maps depend on the vectors of the coarser ones, so encoding has to look them up on its way."""
    whole, signals = tokenizer(maps).eval(), images().float()
    whole.initialise(signals)
    assert tuple(level.name for level in whole.levels) == names
    assert [(level.grid, level.num_codes) for level in whole.levels] == [
        ((8 // 2 ** (maps - 1 - i),) * 2, 6 + i) for i in range(maps)
    ]
    passed, codes = whole(signals), whole.encode(signals)
    assert all(torch.equal(*both) for both in zip(passed.codes, codes, strict=True))
    assert torch.equal(whole.decode(codes), passed.reconstructed)
    assert set(passed.losses) == {f"{name}.commitment" for name in names}


def test_a_size_that_cannot_be_divided_names_every_setting_that_divides_it() -> None:
    with pytest.raises(
        ConfigError, match=r"cannot be divided by 16; .*encoder\.downsample or encoder\.step, or fewer encoder\.maps"
    ):
        pair(3)[0].grids((24, 24))
