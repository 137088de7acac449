"""DALL-E's discrete VAE: the logit-Laplace density, the pixels it is of, and networks of the published form and size."""

import math
from typing import Any

import pytest
import torch
from scipy import integrate, special, stats
from torch import Tensor, nn
from torch.nn import functional as F

from dvgen.config import structure
from dvgen.discovery import discover
from dvgen.errors import ConfigError, ShapeError
from dvgen.experiment import LossChoice, experiment_from
from dvgen.recipes import read_recipe
from dvgen.training.tokenizer import ReconstructionObjective
from dvgen_dalle.convolutions import GroupConvolutions
from dvgen_dalle.decoder import DALLEDecoder
from dvgen_dalle.encoder import DALLEEncoder
from dvgen_dalle.loss import SMALLEST, LogitLaplaceLoss

LOSS = LogitLaplaceLoss(LogitLaplaceLoss.Config())
PARAMETERS = [(0.0, 0.0), (1.5, -1.0), (-3.0, 0.7), (0.2, -3.0)]
"""mu and ln b."""


def seen_as(x: float) -> float:
    """The signal that is mapped to x in (0, 1): equation 3 the other way round, for pixels in [-1, 1]."""
    return (x - 0.1) / 0.8 * 2 - 1


def nats(x: float, mu: float, log_scale: float) -> float:
    """The loss of one value."""
    output = torch.tensor([[mu], [log_scale]], dtype=torch.float64).view(1, 2, 1, 1)
    return float(LOSS(output, torch.full((1, 1, 1, 1), seen_as(x), dtype=torch.float64)))


@pytest.mark.parametrize(("mu", "log_scale"), PARAMETERS)
def test_the_density_integrates_to_one(mu: float, log_scale: float) -> None:
    """Over (0, 1), by adaptive quadrature in float64."""
    middle = float(special.expit(mu))
    area, _ = integrate.quad(lambda x: math.exp(-nats(x, mu, log_scale)), 1e-12, 1 - 1e-12, points=[middle], limit=300)
    assert area == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("mu", "log_scale"), PARAMETERS)
@pytest.mark.parametrize("x", [0.1, 0.3, 0.5, 0.88])
def test_it_is_the_density_of_the_sigmoid_of_a_laplace_variable(x: float, mu: float, log_scale: float) -> None:
    """SciPy's Laplace density at logit x, times the derivative of the logit."""
    wanted = stats.laplace.logpdf(special.logit(x), loc=mu, scale=math.exp(log_scale)) - math.log(x * (1 - x))
    assert -nats(x, mu, log_scale) == pytest.approx(wanted, abs=1e-9)


def test_it_is_a_mean_over_channels_and_places_mu_before_the_scales() -> None:
    torch.manual_seed(0)
    signals = torch.rand(2, 3, 2, 2, dtype=torch.float64) * 2 - 1
    mu, log_scale = torch.randn(2, 2, 3, 2, 2, dtype=torch.float64)
    x = ((signals + 1) / 2 * 0.8 + 0.1).flatten().tolist()
    each = [nats(*values) for values in zip(x, mu.flatten().tolist(), log_scale.flatten().tolist(), strict=True)]
    assert float(LOSS(torch.cat([mu, log_scale], dim=1), signals)) == pytest.approx(sum(each) / len(each))


@pytest.mark.parametrize("mu", [-1e4, 0.0, 1e4])
@pytest.mark.parametrize("log_scale", [-1e3, -80.0, 80.0, 1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_value_and_gradient_are_finite_at_saturation(mu: float, log_scale: float, dtype: torch.dtype) -> None:
    """At both ends of the signals, and at a mu that is met exactly, where b would otherwise fall without end."""
    output = torch.tensor([mu, log_scale]).to(dtype).view(1, 2, 1, 1).expand(1, 2, 1, 3).clone().requires_grad_()
    loss = LOSS(output, torch.tensor([-1.0, 0.0, 1.0]).view(1, 1, 1, 3))
    loss.backward()
    assert loss.dtype == torch.float32
    assert bool(loss.isfinite())
    assert output.grad is not None
    assert bool(output.grad.isfinite().all())


def test_the_scale_is_bounded_below_and_only_there() -> None:
    assert nats(0.5, 0.0, -1e3) == nats(0.5, 0.0, SMALLEST) < nats(0.5, 0.0, SMALLEST + 0.1)


def test_the_least_scale_is_far_below_the_distance_of_two_pixels() -> None:
    """Neighbouring values of 8 bits are, at the least, fourteen times as far apart: it costs no likelihood."""
    logits = torch.special.logit(torch.arange(256, dtype=torch.float64) / 255 * 0.8 + 0.1)
    assert float(logits.diff().min()) / math.exp(SMALLEST) == pytest.approx(14, abs=0.5)


@pytest.mark.parametrize("log_scale", [-8.0, -1e3])
@pytest.mark.parametrize("distance", [0.0, 5e-4, 2e-3, 1.0])
def test_a_scale_that_fell_too_far_can_rise_and_cannot_fall_on(log_scale: float, distance: float) -> None:
    """The gradient of the least scale, d/d ln b of ln b + distance / b = 1 - distance / b, where it is negative; else none."""
    output = torch.tensor([[distance], [log_scale]], dtype=torch.float64).view(1, 2, 1, 1).requires_grad_()
    LOSS(output, torch.zeros(1, 1, 1, 1, dtype=torch.float64)).backward()
    assert output.grad is not None
    assert float(output.grad[0, 1]) == pytest.approx(min(0.0, 1 - distance / math.exp(SMALLEST)))


def test_the_signals_of_a_distribution_are_its_median() -> None:
    """The logit of a mapped pixel is decoded to that pixel, whatever ln b; beyond the ends signals are clamped."""
    decoder = DALLEDecoder(DALLEDecoder.tiny(), channels=3, dims=(4,))
    pixels = torch.linspace(-1, 1, 48, dtype=torch.float64).view(1, 3, 4, 4)
    mu = torch.special.logit((pixels + 1) / 2 * 0.8 + 0.1)
    for log_scale in (-5.0, 3.0):
        output = torch.cat([mu, torch.full_like(mu, log_scale)], dim=1)
        torch.testing.assert_close(decoder.signals(output), pixels)
    far = torch.tensor([-9.0, 9.0]).view(2, 1, 1, 1).expand(2, 6, 1, 1)
    assert decoder.signals(far)[:, 0].flatten().tolist() == [-1.0, 1.0]


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_networks_have_the_published_number_of_parameters() -> None:
    """openai/DALL-E, dall_e/encoder.py and decoder.py with their defaults: 53,786,240 and 43,829,766, counted there.

    Their encoder ends in the logits of 8192 codes. Their decoder begins with a 1x1 convolution from one-hot codes to 128
    channels, whose weights are a codebook and whose bias has no place here. With weights copied from the release both
    gave its outputs bit for bit.
    """
    with torch.device("meta"):
        encoder = DALLEEncoder(GroupConvolutions(), channels=3, dims=(8192,))
        decoder = DALLEDecoder(GroupConvolutions(), channels=3, dims=(128,))
    assert parameters(encoder) == 53_786_240
    assert parameters(decoder) + 8192 * 128 + 128 == 43_829_766


class Written:
    """The formulas of the code release over the tensors of a state_dict."""

    def __init__(self, module: nn.Module, blocks: int, groups: int) -> None:
        self.state, self.blocks, self.groups = module.state_dict(), blocks, groups

    def conv(self, x: Tensor, name: str) -> Tensor:
        weight = self.state[f"{name}.weight"]
        return F.conv2d(x, weight, self.state[f"{name}.bias"], padding=(weight.shape[-1] - 1) // 2)

    def group(self, x: Tensor, number: int) -> Tensor:
        for i in range(self.blocks):
            name = f"groups.{number}.{i}"
            branch = x
            for j in range(4):
                branch = self.conv(branch.clamp(min=0), f"{name}.convolutions.{j}")
            skipped = self.conv(x, f"{name}.skip") if f"{name}.skip.weight" in self.state else x
            x = skipped + branch / (self.groups * self.blocks) ** 2
        return x

    def encoded(self, images: Tensor) -> Tensor:
        x = self.conv(0.8 * (images + 1) / 2 + 0.1, "first")
        for number in range(self.groups):
            b, c, h, w = x.shape
            x = self.group(x.view(b, c, h // 2, 2, w // 2, 2).amax(dim=(3, 5)) if number else x, number)
        return self.conv(x.clamp(min=0), "last.1")

    def decoded(self, x: Tensor) -> Tensor:
        for number in range(self.groups):
            x = self.group(x.repeat_interleave(2, 2).repeat_interleave(2, 3) if number else x, number)
        return self.conv(x.clamp(min=0), "last")


@pytest.mark.parametrize(("blocks", "downsample", "groups"), [(2, 8, 4), (1, 2, 2), (3, 1, 1)])
def test_encoder_and_decoder_are_the_formulas_of_the_release(blocks: int, downsample: int, groups: int) -> None:
    torch.manual_seed(0)
    config = GroupConvolutions(channels=8, blocks=blocks, downsample=downsample)
    encoder = DALLEEncoder(config, channels=3, dims=(5,)).double()
    decoder = DALLEDecoder(config, channels=3, dims=(5,)).double()
    for parameter in [*encoder.parameters(), *decoder.parameters()]:
        nn.init.normal_(parameter, std=0.5)
    images = torch.rand(2, 3, 16, 24, dtype=torch.float64) * 2 - 1
    (features,) = encoder(images)
    assert encoder.grids((16, 24)) == (tuple(features.shape[2:]),) == ((16 // downsample, 24 // downsample),)
    torch.testing.assert_close(features, Written(encoder, blocks, groups).encoded(images))
    output = decoder((features,))
    assert output.shape == (2, 6, 16, 24)
    torch.testing.assert_close(output, Written(decoder, blocks, groups).decoded(features))
    assert decoder.signals(output).shape == images.shape


def test_kernels_are_those_of_the_release() -> None:
    """Encoder blocks 3, 3, 3, 1; decoder blocks 1, 3, 3, 3; 7 first, 1 last; a quarter of the channels inside."""
    config = GroupConvolutions(channels=8)
    sides = (DALLEEncoder(config, channels=3, dims=(5,)), DALLEDecoder(config, channels=3, dims=(5,)))
    for module, sizes, widths in zip(sides, ([3, 3, 3, 1], [1, 3, 3, 3]), ([8, 16, 32, 64], [64, 32, 16, 8]), strict=True):
        state = module.state_dict()
        for group, width in enumerate(widths):
            shapes = [state[f"groups.{group}.1.convolutions.{i}.weight"].shape for i in range(4)]
            assert [shape[-1] for shape in shapes] == sizes
            assert [shape[0] for shape in shapes] == [width // 4] * 3 + [width]
    assert sides[0].first.weight.shape[-1] == 7
    lasts = zip(sides, ("last.1.weight", "last.weight"), strict=True)
    assert [side.state_dict()[name].shape[-1] for side, name in lasts] == [1, 1]


def test_weights_begin_with_the_variance_of_the_release_and_biases_at_zero() -> None:
    torch.manual_seed(0)
    encoder = DALLEEncoder(GroupConvolutions(channels=64), channels=3, dims=(64,))
    for name, parameter in encoder.named_parameters():
        if parameter.ndim == 1:
            assert not parameter.any(), name
        else:
            assert float(parameter.detach().std()) * parameter[0].numel() ** 0.5 == pytest.approx(1, abs=0.05), name


def objective(*losses: str) -> ReconstructionObjective:
    return ReconstructionObjective(discover().registry, [LossChoice(use=name) for name in losses])


def test_the_loss_needs_a_decoder_that_makes_its_distribution() -> None:
    objective("logit-laplace", "mse").check(DALLEDecoder.makes)
    with pytest.raises(
        ConfigError, match=r"'logit-laplace' reads the parameters of 'logit-laplace', but this decoder makes 'si"
    ):
        objective("logit-laplace").check("signals")


@pytest.mark.parametrize("shape", [(2, 5, 4, 4), (2, 4, 4, 4), (2, 6, 4, 5)])
def test_outputs_that_are_not_of_these_signals_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="logit-laplace"):
        LOSS(torch.zeros(shape), torch.zeros(2, 3, 4, 4))


@pytest.mark.parametrize("fields", [{"channels": 6}, {"channels": 0}, {"blocks": 0}, {"downsample": 3}])
def test_fields_out_of_range_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(fields))):
        structure(fields, GroupConvolutions)


@pytest.mark.parametrize("part", [DALLEEncoder, DALLEDecoder])
def test_only_one_map_is_taken(part: Any) -> None:
    with pytest.raises(ConfigError, match="one map"):
        part(part.tiny(), channels=3, dims=(2, 2))


@pytest.mark.parametrize("size", [(12, 16), (16,), (16, 16, 16), (4, 4)])
def test_sizes_that_cannot_be_divided_are_refused(size: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"encoder\.downsample"):
        DALLEEncoder(GroupConvolutions(channels=4), channels=3, dims=(2,)).grids(size)


def test_widths_are_scaled_to_multiples_of_four() -> None:
    assert [GroupConvolutions(channels=16).scaled(by).channels for by in (0.01, 0.5, 0.6, 2)] == [4, 8, 8, 32]


def test_the_kl_weight_of_the_recipe_is_that_of_the_papers_loss() -> None:
    """Appendix A.2: everything is divided by the number of values, so the mean over codes weighs 6.6 * codes / values."""
    recipe = read_recipe(discover().registry, "dalle-dvae")
    experiment = experiment_from(recipe.table)
    encoder = DALLEEncoder(GroupConvolutions(channels=4), channels=3, dims=(2,))
    codes, values = math.prod(encoder.grids(recipe.shape[1:])[0]), math.prod(recipe.shape)
    assert experiment.quantizer[0].fields["kl"] == pytest.approx(6.6 * codes / values, rel=1e-12)
