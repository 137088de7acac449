"""VQ-VAE: encoder, decoder, the two losses of its quantizer, reconstruction losses."""

import pytest
import torch
from torch import Tensor, nn

from dvgen.config import structure
from dvgen.errors import ConfigError, ShapeError
from dvgen_vqvae.decoder import VQVAEDecoder
from dvgen_vqvae.encoder import VQVAEEncoder
from dvgen_vqvae.losses import L1Loss, MSELoss
from dvgen_vqvae.quantizer import VQQuantizer


def small(downsample: int = 4) -> dict[str, int]:
    return {"channels": 8, "residual_channels": 4, "residual_blocks": 2, "downsample": downsample}


def pair(downsample: int = 4, channels: int = 3) -> tuple[VQVAEEncoder, VQVAEDecoder]:
    encoder = VQVAEEncoder(VQVAEEncoder.Config(**small(downsample)), channels=channels, dims=(5,))
    return encoder, VQVAEDecoder(VQVAEDecoder.Config(**small(downsample)), channels=channels, dims=(5,))


@pytest.mark.parametrize("downsample", [1, 2, 4, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_are_those_that_grids_announces(downsample: int, channels: int) -> None:
    encoder, decoder = pair(downsample, channels)
    images = torch.randn(2, channels, 16, 24)
    (grid,) = encoder.grids((16, 24))
    assert grid == (16 // downsample, 24 // downsample)
    (features,) = encoder(images)
    assert features.shape == (2, 5, *grid)
    assert encoder.condition(0, (features,), ()) is features
    assert decoder((features,)).shape == images.shape


def test_mnist_gives_seven_by_seven() -> None:
    encoder = VQVAEEncoder(VQVAEEncoder.Config(), channels=1, dims=(64,))
    assert encoder.grids((28, 28)) == ((7, 7),)
    assert encoder(torch.zeros(1, 1, 28, 28))[0].shape == (1, 64, 7, 7)


@pytest.mark.parametrize("size", [(28, 30), (27, 28), (2, 4), (0, 4), (16,), (16, 16, 16)])
def test_sizes_that_cannot_be_divided_are_refused(size: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="downsample"):
        pair()[0].grids(size)


@pytest.mark.parametrize("downsample", [0, 3, 6, -2])
@pytest.mark.parametrize("part", [VQVAEEncoder, VQVAEDecoder])
def test_factors_that_are_no_power_of_two_are_refused(part: type, downsample: int) -> None:
    with pytest.raises(ConfigError, match="power of two"):
        structure({"downsample": downsample}, part.Config)


@pytest.mark.parametrize("part", [VQVAEEncoder, VQVAEDecoder])
@pytest.mark.parametrize("dims", [(), (4, 4)])
def test_one_map_takes_one_quantizer(part: type, dims: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="one quantizer"):
        part(part.Config(), channels=3, dims=dims)


@pytest.mark.parametrize("downsample", [1, 2, 4, 8])
def test_every_parameter_gets_a_gradient(downsample: int) -> None:
    torch.manual_seed(0)
    encoder, decoder = pair(downsample)
    images = torch.randn(4, 3, 16, 16)
    MSELoss(MSELoss.Config())(decoder(encoder(images)), images).backward()
    for part in (encoder, decoder):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name
            assert (parameter.grad != 0).any(), name


def test_residual_blocks_start_from_their_input() -> None:
    """With their last convolution at zero they are the identity, so no ReLU inside may overwrite the input."""
    encoder, _ = pair()
    stack = next(layer for layer in encoder.layers if isinstance(layer, nn.Sequential))
    for block in list(stack)[:-1]:
        nn.init.zeros_(block.narrow.weight)
        nn.init.zeros_(block.narrow.bias)
    features = torch.randn(2, 8, 4, 4)
    assert torch.equal(stack(features), features.clamp(min=0))


@pytest.mark.parametrize("downsample", [1, 4])
def test_last_layer_makes_the_images_and_is_saved_once(downsample: int) -> None:
    _, decoder = pair(downsample)
    vectors = torch.randn(2, 5, 4, 4)
    with torch.no_grad():
        decoder.last_layer.zero_()
    assert (decoder((vectors,)).std(dim=(0, 2, 3)) < 1e-6).all()
    saved = [name for name, value in decoder.state_dict().items() if value.data_ptr() == decoder.last_layer.data_ptr()]
    assert saved == ["last.weight"]


@pytest.mark.parametrize("part", [VQVAEEncoder, VQVAEDecoder])
def test_scaled_and_tiny_configs(part: type) -> None:
    config = part.Config(channels=64, residual_channels=32)
    assert part.scaled(config, 0.5) == part.Config(channels=32, residual_channels=16)
    assert part.scaled(config, 1e-9).channels == 1
    assert sum(p.numel() for p in part(part.tiny(), channels=1, dims=(3,)).parameters()) < 5000


def reference(z: Tensor, codebook: Tensor, commitment: float) -> tuple[Tensor, dict[str, Tensor]]:
    """VQ-VAE's equation 3 by plain autograd in float64, for z (n, d)."""
    chosen = codebook[(z.unsqueeze(1) - codebook).square().sum(dim=2).argmin(dim=1)]
    codebook_loss = (z.detach() - chosen).square().mean()
    commitment_loss = commitment * (z - chosen.detach()).square().mean()
    return z + (chosen - z).detach(), {"codebook": codebook_loss, "commitment": commitment_loss}


@pytest.mark.parametrize("commitment", [0.0, 0.25, 2.0])
def test_losses_and_gradients_equal_equation_three(commitment: float) -> None:
    torch.manual_seed(1)
    quantizer = VQQuantizer(VQQuantizer.Config(num_codes=6, dim=4, commitment=commitment))
    z, upstream = torch.randn(3, 4, 5, requires_grad=True), torch.randn(3, 4, 5)
    rows = z.detach().movedim(1, 2).flatten(0, 1).double().requires_grad_()
    codebook = quantizer.codebook.detach().double().requires_grad_()
    out, (vectors, losses) = quantizer(z), reference(rows, codebook, commitment)
    assert set(out.losses) == set(losses)
    for name, value in losses.items():
        torch.testing.assert_close(out.losses[name].double(), value)
    (out.vectors * upstream).sum().add(sum(out.losses.values())).backward()
    (vectors * upstream.movedim(1, 2).flatten(0, 1)).sum().add(sum(losses.values())).backward()
    torch.testing.assert_close(z.grad.movedim(1, 2).flatten(0, 1).double(), rows.grad)
    torch.testing.assert_close(quantizer.codebook.grad.double(), codebook.grad)


@pytest.mark.parametrize(("loss", "reaches_z", "reaches_codebook"), [("codebook", False, True), ("commitment", True, False)])
def test_each_loss_reaches_one_side_only(loss: str, reaches_z: bool, reaches_codebook: bool) -> None:
    """The commitment weight on the wrong side is the commonest fault of public VQ-VAEs."""
    quantizer = VQQuantizer(VQQuantizer.Config(num_codes=6, dim=4))
    z = torch.randn(3, 4, 5, requires_grad=True)
    gradients = torch.autograd.grad(quantizer(z).losses[loss], (z, quantizer.codebook), allow_unused=True)
    assert [gradient is not None for gradient in gradients] == [reaches_z, reaches_codebook]


def test_gradient_goes_straight_through_and_not_to_the_codebook() -> None:
    quantizer = VQQuantizer(VQQuantizer.Config(num_codes=6, dim=4)).eval()
    z, upstream = torch.randn(3, 4, 5, requires_grad=True), torch.randn(3, 4, 5)
    quantizer(z).vectors.backward(upstream)
    assert torch.equal(z.grad, upstream)
    assert quantizer.codebook.grad is None


def test_initialised_codes_are_means_of_their_features_and_all_in_use() -> None:
    """A third of the features are one and the same, as the background of a picture is. Three clumps give their three means."""
    quantizer = VQQuantizer(VQQuantizer.Config(num_codes=64, dim=3))
    rows = torch.randn(300, 3)
    rows[:100] = 0.5
    quantizer.initialise(rows)
    assert len(quantizer.encode(rows.T.unsqueeze(0))[0].unique()) == 64
    few = VQQuantizer(VQQuantizer.Config(num_codes=3, dim=3))
    clumps = torch.eye(3).repeat_interleave(20, dim=0) * 100 + torch.randn(60, 3)
    few.initialise(clumps)
    own = few.encode(clumps.T.unsqueeze(0))[0][0]
    for code in range(3):
        torch.testing.assert_close(few.codebook[code], clumps[own == code].mean(dim=0))


def test_reconstruction_losses() -> None:
    left, right = torch.tensor([[[[1.0, -1.0]]]]), torch.tensor([[[[0.0, 2.0]]]])
    assert float(MSELoss(MSELoss.Config())(left, right)) == 5.0
    assert float(L1Loss(L1Loss.Config())(left, right)) == 2.0
    for loss in (MSELoss(MSELoss.Config()), L1Loss(L1Loss.Config())):
        assert float(loss(left, left)) == 0.0
        with pytest.raises(ShapeError, match="shape"):
            loss(left, right[..., :1])
