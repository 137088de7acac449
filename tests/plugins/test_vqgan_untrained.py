"""The untrained stand-in for LPIPS: its formula, weights that never change, gradients that stay small."""

import hashlib

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, relu

from dvgen.blocks.signed_weights import signed_weights
from dvgen_vqgan.perceptual import UntrainedLPIPSLoss, perceptual_distance


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def untrained() -> UntrainedLPIPSLoss:
    return UntrainedLPIPSLoss(UntrainedLPIPSLoss.Config())


def test_the_untrained_distance_is_its_formula() -> None:
    """In float64, place by place, from the weights' definition."""
    a, b = images(2, 3, 8, 12).double(), images(2, 3, 8, 12, seed=1).double()
    widths = (3, 16, 32, 32)
    total = 0.0
    for image in range(2):
        x, y = a[image], b[image]
        for i in range(3):
            weight = signed_weights(f"lpips-untrained:v1/{i}", (widths[i + 1], widths[i], 3, 3))
            bias = signed_weights(f"lpips-untrained:v1/{i}/bias", (widths[i + 1],)) / 4
            # stride 2: every second place of the whole convolution
            x, y = (relu(conv2d(map_[None], weight, bias, padding=1))[0, :, ::2, ::2] for map_ in (x, y))
            places = [(x[:, r, c], y[:, r, c]) for r in range(x.shape[1]) for c in range(x.shape[2])]
            # |u - v|^2 = |u|^2 + |v|^2 - 2 cos, where a vector that is 0 stays 0
            squares = [bool(u.any()) + bool(v.any()) - 2 * torch.cosine_similarity(u, v, dim=0).item() for u, v in places]
            total += sum(squares) / len(squares)
    assert untrained().double()(a, b).item() == pytest.approx(total / 2, rel=1e-6)


def test_the_untrained_weights_are_pinned() -> None:
    """A changed value is another measure: it needs a new label in the names of its weights."""
    state = torch.get_rng_state()
    loss = untrained()
    assert torch.equal(torch.get_rng_state(), state)
    bits = b"".join((buffer > 0).numpy().tobytes() for buffer in loss.buffers())
    assert hashlib.sha256(bits).hexdigest()[:16] == "4b272fa20a6a4a3c"
    assert list(loss.parameters()) == []
    assert loss.state_dict() == {}


def test_the_untrained_distance_grows_with_noise_and_does_not_depend_on_the_batch() -> None:
    loss, a, noise = untrained(), images(4, 1, 28, 28), images(4, 1, 28, 28, seed=1)
    found = [loss(a + scale * noise, a).item() for scale in (0.0, 0.05, 0.2, 0.8)]
    assert found[0] == 0
    assert found == sorted(set(found))
    torch.testing.assert_close(loss(a, noise), loss(noise, a))
    alone = torch.stack([loss(x, y) for x, y in zip(a.split(1), noise.split(1), strict=True)])
    torch.testing.assert_close(alone.mean(), loss(a, noise))
    assert loss(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)).item() > 0


def test_features_that_are_all_zero_do_not_spoil_the_gradient() -> None:
    """The root in the length of a vector has no slope at 0; without a ReLU before it, NaN would reach the images."""
    a = torch.zeros(1, 4, 2, 2, requires_grad=True)
    for b in (torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2)):
        (gradient,) = torch.autograd.grad(perceptual_distance([a], [b], [torch.ones(4)]).sum(), a)
        assert bool(gradient.isfinite().all())


def test_an_almost_grey_image_has_no_huge_gradient() -> None:
    """What an untrained decoder makes; without biases the slope would grow like 1 / contrast."""
    target = images(2, 3, 32, 32)
    sizes = []
    for contrast in (1.0, 1e-3, 1e-6):
        a = (contrast * images(2, 3, 32, 32, seed=1)).requires_grad_()
        sizes.append(torch.autograd.grad(untrained()(a, target), a)[0].norm().item())
    assert max(sizes) < 3 * min(sizes)
