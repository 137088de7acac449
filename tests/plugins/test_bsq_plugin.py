"""BSQ: signs on the sphere, the gradient of the normalisation, and entropies against an enumeration of all codes."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dvgen_binary.bsq import BSQQuantizer


def make(**fields: float) -> BSQQuantizer:
    return BSQQuantizer(BSQQuantizer.Config(**fields))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def corners(bits: int) -> Tensor:
    """All codes' vectors (2^bits, bits), of length one, in the order of the codes: bit i is 1 where channel i is negative."""
    signs = [[-1.0 if code >> i & 1 else 1.0 for i in range(bits)] for code in range(2**bits)]
    return torch.tensor(signs, dtype=torch.float64) / math.sqrt(bits)


def entropy(probabilities: Tensor) -> Tensor:
    return torch.special.entr(probabilities).sum(dim=-1)


@pytest.mark.parametrize("bits", [1, 3, 6])
def test_vectors_are_the_corners_on_the_sphere(bits: int) -> None:
    codes = torch.arange(2**bits).unsqueeze(0)
    vectors = make(bits=bits).decode((codes,))
    torch.testing.assert_close(vectors[0].T.double(), corners(bits), rtol=1e-6, atol=0)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(1, 2**bits))
    assert torch.equal(make(bits=bits).encode(vectors)[0], codes)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_code_is_the_nearest_corner_whatever_the_length_of_the_feature(scale: float) -> None:
    """In exact arithmetic |z - c|^2 is least where z.c is largest, the corners being of one length."""
    z = drawn(1, 4, 200) * scale
    wanted = (z[0].T @ corners(4).T).argmax(dim=1)
    assert torch.equal(make(bits=4).encode(z)[0][0], wanted)
    assert torch.equal(make(bits=4).encode(z.float())[0][0], wanted)


def test_a_channel_that_vanishes_beside_the_others_keeps_its_sign() -> None:
    """Divided by the length it underflows to zero, which is not negative."""
    z = torch.tensor([1e30, -1e-30]).view(1, 2, 1)
    assert int(make(bits=2).encode(z)[0]) == int(make(bits=2)(z).codes[0]) == 2


def test_the_zero_feature_takes_code_zero_and_has_a_finite_gradient() -> None:
    z = torch.zeros(1, 3, 2, requires_grad=True)
    out = make(bits=3)(z)
    (out.vectors.sum() + torch.stack(list(out.losses.values())).sum()).backward()
    assert (out.codes[0] == 0).all()
    assert z.grad.isfinite().all()


@pytest.mark.parametrize("train", [True, False])
def test_gradient_is_that_of_the_normalisation(train: bool) -> None:
    z, upstream = drawn(2, 3, 4).requires_grad_(), drawn(2, 3, 4, seed=1)
    make(bits=3).train(train)(z).vectors.backward(upstream)
    reference = z.detach().clone().requires_grad_()
    F.normalize(reference, dim=1).backward(upstream)
    torch.testing.assert_close(z.grad, reference.grad)


@pytest.mark.parametrize("tau", [0.5, 1.0, 50.0])
@pytest.mark.parametrize("bits", [1, 3, 6])
def test_losses_equal_the_enumeration_of_all_codes(bits: int, tau: float) -> None:
    """softmax(-tau |u - c|^2) over all corners; the weights stand where the config says."""
    z = drawn(3, bits, 7)
    quantizer = make(bits=bits, group=bits, inverse_temperature=tau, entropy=0.3, diversity=0.5, commitment=0.7)
    out = quantizer(z)
    u = F.normalize(z.movedim(1, -1).reshape(-1, bits), dim=1)
    distances = (u.unsqueeze(1) - corners(bits)).square().sum(dim=2)
    probabilities = (-tau * distances).softmax(dim=1)
    sample, batch = entropy(probabilities).mean(), entropy(probabilities.mean(dim=0))
    torch.testing.assert_close(out.losses["entropy_sample"], 0.3 * sample)
    torch.testing.assert_close(out.losses["entropy_batch"], -0.3 * 0.5 * batch)
    torch.testing.assert_close(
        torch.stack([out.stats["entropy_sample"], out.stats["entropy_batch"]]), torch.stack([sample, batch])
    )
    nearest = distances.amin(dim=1)
    torch.testing.assert_close(out.losses["commitment"], 0.7 * nearest.mean() / bits, rtol=1e-6, atol=1e-14)
    torch.testing.assert_close(out.stats["quantization_error"], nearest.mean() / bits, rtol=1e-6, atol=1e-14)
    assert 0 <= float(sample) <= float(batch) <= bits * math.log(2) + 1e-12


def test_losses_do_not_see_the_length_of_the_features() -> None:
    z, quantizer = drawn(2, 4, 5), make(bits=4)
    for name, loss in quantizer(z).losses.items():
        for scale in (1e-12, 1e6):
            torch.testing.assert_close(quantizer(z * scale).losses[name], loss)


def test_gradients_of_the_losses_are_those_of_finite_differences() -> None:
    quantizer = make(bits=4, group=2)

    def losses(z: Tensor) -> tuple[Tensor, ...]:
        return tuple(quantizer(z).losses.values())

    assert torch.autograd.gradcheck(losses, drawn(2, 4, 3).requires_grad_())


def test_the_quantization_error_is_bounded() -> None:
    """|u - c|^2 <= 2 - 2/sqrt(bits), reached on the axes (BSQ, section 4)."""
    for bits in (2, 5, 18):
        z = torch.cat([torch.eye(bits), torch.randn(50, bits)]).T.unsqueeze(0)
        u = F.normalize(z, dim=1)
        errors = (u - make(bits=bits)(z).vectors).square().sum(dim=1)[0]
        assert errors.max() <= 2 - 2 / math.sqrt(bits) + 1e-6
        torch.testing.assert_close(errors[0], torch.tensor(2 - 2 / math.sqrt(bits)))


def test_codes_of_62_bits_are_exact_and_factors_split_them() -> None:
    numbers = [0, 2**53 + 1, 2**62 - 1, 1234567890123456789]
    vectors = make(bits=62).decode((torch.tensor([numbers]),))
    assert make(bits=62)(vectors).codes[0].tolist() == [numbers]
    low, high = make(bits=62, factors=2).encode(vectors)
    assert low.tolist() == [[number % 2**31 for number in numbers]]
    assert high.tolist() == [[number // 2**31 for number in numbers]]
    assert torch.equal(make(bits=62, factors=2).decode((low, high)), vectors)


@pytest.mark.parametrize("train", [True, False])
def test_compiles_without_a_graph_break(train: bool) -> None:
    quantizer = make(bits=4, factors=2).train(train)
    z, mask = torch.randn(2, 4, 3), torch.tensor([[True, False, True], [True] * 3])
    out = torch.compile(quantizer, fullgraph=True, backend="aot_eager")(z, mask)
    expected = quantizer(z, mask)
    assert torch.equal(out.vectors, expected.vectors)
    assert all(torch.equal(a, b) for a, b in zip(out.codes, expected.codes, strict=True))
