"""Gumbel-softmax: the gradient of its samples, their frequencies, the limits of the temperature, the divergence."""

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from dvgen.blocks.codebook import sampled_codebook
from dvgen.config import structure
from dvgen.errors import ConfigError
from dvgen_gumbel.quantizer import GumbelQuantizer


def make(**fields: float) -> GumbelQuantizer:
    torch.manual_seed(0)
    return GumbelQuantizer(GumbelQuantizer.Config(**({"num_codes": 6, "dim": 4} | fields)))


def rows_of(z: Tensor) -> Tensor:
    """(b, d, n) as float64 rows (b n, d)."""
    return z.detach().movedim(1, 2).flatten(0, 1).double()


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("train", [True, False])
def test_gradient_is_that_of_the_softmax_in_closed_form(temperature: float, train: bool) -> None:
    """dL/dl_j = y_j (E_j . g - sum_i y_i E_i . g) / temperature, y the soft sample; dL/dE is that of the chosen rows."""
    quantizer = make(temperature_start=temperature, kl=0.0).train(train)
    z, upstream = torch.randn(3, 4, 5, requires_grad=True), torch.randn(3, 4, 5)
    torch.manual_seed(7)
    out = quantizer(z)
    out.vectors.backward(upstream)

    torch.manual_seed(7)
    noise = -torch.empty(15, 6).exponential_().log().double() if train else torch.zeros(15, 6).double()
    weight, bias = quantizer.projection.weight.detach().double(), quantizer.projection.bias.detach().double()
    codebook, rows, g = quantizer.codebook.detach().double(), rows_of(z), rows_of(upstream)
    logits = rows @ weight.T + bias
    soft = ((logits + noise) / temperature).softmax(dim=1)
    reach = g @ codebook.T
    to_logits = soft * (reach - (soft * reach).sum(dim=1, keepdim=True)) / temperature
    codes = (logits + noise).argmax(dim=1)

    assert torch.equal(out.codes[0].flatten(), codes)
    torch.testing.assert_close(rows_of(z.grad), to_logits @ weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(quantizer.projection.weight.grad.double(), to_logits.T @ rows, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(quantizer.projection.bias.grad.double(), to_logits.sum(dim=0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(quantizer.codebook.grad.double(), F.one_hot(codes, 6).double().T @ g, rtol=1e-4, atol=1e-5)


def test_forward_is_hard_and_each_vector_is_its_code_in_training_too() -> None:
    quantizer = make().train()
    out = quantizer(torch.randn(3, 4, 5))
    assert torch.equal(quantizer.decode(out.codes), out.vectors)


def test_samples_have_the_frequencies_of_the_softmax() -> None:
    """Chi-square against softmax(logits): 5 degrees of freedom, 20.5 is passed once in a thousand."""
    quantizer, n = make().train(), 20000
    z = torch.randn(1, 4, 1)
    expected = n * quantizer.projection(z[:, :, 0]).softmax(dim=1)[0].detach()
    torch.manual_seed(1)
    observed = quantizer(z.expand(1, 4, n)).stats["counts_0"]
    assert ((observed - expected).square() / expected).sum() < 20.5


def test_evaluation_takes_the_likeliest_code_and_no_random_numbers() -> None:
    quantizer = make().eval()
    z, random = torch.randn(3, 4, 5), torch.get_rng_state()
    out = quantizer(z)
    assert torch.equal(random, torch.get_rng_state())
    assert torch.equal(out.codes[0], quantizer.projection(z.movedim(1, 2)).argmax(dim=2))
    assert torch.equal(quantizer.train().encode(z)[0], out.codes[0])


def test_at_temperature_zero_the_soft_sample_is_the_hard_one() -> None:
    """So its gradient vanishes."""
    z = torch.randn(3, 4, 5, requires_grad=True)
    cold = make(temperature_start=1e-4).eval()(z)
    assert torch.autograd.grad(cold.vectors.sum(), z)[0].abs().max() < 1e-6


@pytest.mark.parametrize("num_codes", [2, 6, 64])
def test_divergence_from_uniform_in_nats(num_codes: int) -> None:
    """log k - H(softmax(l)), a mean over positions: 0 for equal logits, log k for a certain code."""
    quantizer = make(num_codes=num_codes, kl=1.0).train()
    z = torch.randn(3, 4, 5)
    probabilities = quantizer.projection(z.movedim(1, 2)).double().softmax(dim=2)
    entropy = torch.distributions.Categorical(probs=probabilities).entropy().mean()
    torch.testing.assert_close(quantizer(z).losses["kl"].double(), math.log(num_codes) - entropy, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        quantizer.projection.weight.zero_()
        quantizer.projection.bias.zero_()
        assert abs(float(quantizer(z).losses["kl"])) < 1e-5
        quantizer.projection.bias[0] = 1000.0
        assert float(quantizer(z).losses["kl"]) == pytest.approx(math.log(num_codes))


def test_divergence_is_weighted_and_reaches_the_logits_only() -> None:
    z = torch.randn(3, 4, 5, requires_grad=True)
    one, half = make(kl=1.0).eval(), make(kl=0.5).eval()
    torch.testing.assert_close(half(z).losses["kl"], 0.5 * one(z).losses["kl"])
    one(z).losses["kl"].backward()
    assert (z.grad != 0).any()
    assert (one.projection.weight.grad != 0).any()
    assert one.codebook.grad is None


def test_temperature_falls_along_half_a_cosine_and_is_saved() -> None:
    quantizer = make(temperature_start=2.0, temperature_end=0.5, temperature_steps=100)
    seen = []
    for step in (0, 25, 50, 75, 100, 5000):
        quantizer.schedule(step)
        seen.append(float(quantizer.state_dict()["temperature"]))
    quarter = 0.75 * math.cos(math.pi / 4)
    assert seen == pytest.approx([2.0, 1.25 + quarter, 1.25, 1.25 - quarter, 0.5, 0.5])


def test_starts_as_a_nearest_code_quantizer_on_its_data() -> None:
    """The likeliest code of a feature is the nearest of the sampled codes, wherever the features lie and however large."""
    for scale, offset in ((1.0, 0.0), (1e-3, 0.0), (100.0, 500.0)):
        quantizer = make(num_codes=32).eval()
        rows = torch.randn(500, 4) * scale + offset
        torch.manual_seed(5)
        codes = sampled_codebook(rows, 32)
        torch.manual_seed(5)
        quantizer.initialise(rows)
        brute = (rows.double().unsqueeze(1) - codes.double()).square().sum(dim=2).argmin(dim=1)
        agree = quantizer.encode(rows.T.unsqueeze(0))[0][0] == brute
        assert agree.double().mean() > 0.98
        torch.testing.assert_close(quantizer.codebook.detach().square().mean(), torch.tensor(1.0))


def test_features_far_from_zero_get_the_codes_of_the_same_features_around_it() -> None:
    """Logits are taken from the origin, so that an offset costs no digits; eighths and 2^13 are exact in float32."""
    z = (8 * torch.randn(200, 4)).round() / 8
    near, far = make(num_codes=32).eval(), make(num_codes=32).eval()
    for quantizer, offset in ((near, 0.0), (far, 2.0**13)):
        torch.manual_seed(5)
        quantizer.initialise(z + offset)
    assert torch.equal(near.encode(z.T.unsqueeze(0))[0], far.encode(z.T.unsqueeze(0) + 2.0**13)[0])


def objective(quantizer: GumbelQuantizer, z: Tensor, mask: Tensor | None = None) -> Tensor:
    out = quantizer(z, mask)
    return out.vectors.square().sum() + out.losses["kl"]


@pytest.mark.parametrize("train", [True, False])
def test_compiled_in_one_graph_it_is_the_same(train: bool) -> None:
    """Noise included: the compiled code draws what eager code draws from the same random state."""
    torch._dynamo.reset()
    quantizer = make(kl=0.5).train(train)
    compiled = torch.compile(quantizer, fullgraph=True, backend="aot_eager")
    z, mask = torch.randn(2, 4, 5), torch.tensor([[True] * 5, [True, False] * 2 + [True]])
    results = []
    for module in (quantizer, compiled):
        own = z.clone().requires_grad_()
        torch.manual_seed(3)
        out = module(own, mask)
        loss = out.vectors.square().sum() + out.losses["kl"]
        results.append((out.vectors, out.codes, out.losses, torch.autograd.grad(loss, (own, *quantizer.parameters()))))
    torch.testing.assert_close(results[1], results[0])
    assert torch.equal(results[1][0], results[0][0])


def test_recomputation_draws_the_same_noise() -> None:
    """So that gradients under activation checkpointing are those of the forward pass."""
    quantizer = make(kl=0.5).train()
    z = torch.randn(3, 4, 5, requires_grad=True)
    inputs = (z, *quantizer.parameters())
    torch.manual_seed(3)
    plain = torch.autograd.grad(objective(quantizer, z), inputs)
    torch.manual_seed(3)
    again = torch.autograd.grad(checkpoint(objective, quantizer, z, use_reentrant=False), inputs)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_only_the_logits_and_the_noisy_logits_are_kept_for_the_backward_pass() -> None:
    quantizer, n, k = make(num_codes=50).train(), 40, 50
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.numel() >= n * k:
            kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        quantizer(torch.randn(1, 4, n, requires_grad=True))
    assert [tuple(tensor.shape) for tensor in kept.values()] == [(n, k)] * 2


def test_copies_half_precision_and_double_features_change_nothing() -> None:
    quantizer = make().eval()
    z = torch.randn(3, 4, 5)
    for twin in (copy.deepcopy(quantizer), pickle.loads(pickle.dumps(quantizer)), copy.deepcopy(quantizer).bfloat16()):
        assert torch.equal(twin(z).vectors, quantizer(z).vectors)
    double = quantizer.train()(z.double())
    assert double.vectors.dtype == torch.float64
    assert torch.equal(double.vectors, quantizer.decode(double.codes).double())


@pytest.mark.parametrize(
    ("field", "value"), [("temperature_end", 0.0), ("temperature_steps", 0), ("kl", -1.0), ("num_codes", 0)]
)
def test_values_out_of_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        structure({field: value}, GumbelQuantizer.Config)
