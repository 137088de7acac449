"""Index backpropagation: the gradient of the choice, each loss, the start from data, memory; and the blocks it stands on."""

import copy
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from dvgen.blocks import softmax_choice as softmax_choice_module
from dvgen.blocks.entropy import divergences_from_uniform, entropies, entropy, total_probabilities
from dvgen.blocks.softmax_choice import row_slices, softmax_choice
from dvgen.config import structure
from dvgen.errors import ConfigError
from dvgen_ibq import quantizer as ibq_module
from dvgen_ibq.quantizer import RESOLUTION, SHARPNESS, IBQQuantizer

LOSSES = ("quantization", "codebook", "commitment", "entropy_sample", "entropy_batch")


def make(**fields: float) -> IBQQuantizer:
    torch.manual_seed(0)
    return IBQQuantizer(IBQQuantizer.Config(**({"num_codes": 6, "dim": 4} | fields)))


def soften(quantizer: IBQQuantizer) -> IBQQuantizer:
    """Codes of length one and an origin: a softmax with a gradient worth comparing."""
    with torch.no_grad():
        quantizer.codebook.div_(math.sqrt(SHARPNESS)).add_(0.3 * torch.randn(quantizer.codebook.shape))
        quantizer.origin.normal_()
    return quantizer


def rows_of(z: Tensor) -> Tensor:
    """(b, d, n) as float64 rows (b n, d)."""
    return z.detach().movedim(1, 2).flatten(0, 1).double()


def reference(quantizer: IBQQuantizer, rows: Tensor, codebook: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The paper's section 3.2 by plain autograd in float64, one-hot codes written out."""
    config, origin = quantizer.config, quantizer.origin.double()
    probabilities = ((rows - origin) @ (codebook - origin).T).softmax(dim=1)
    hard = F.one_hot(probabilities.argmax(dim=1), len(codebook)).double()
    vectors, chosen = (hard + probabilities - probabilities.detach()) @ codebook, hard @ codebook
    mean = probabilities.mean(dim=0)
    return vectors, {
        "quantization": config.quantization * (vectors - rows).square().mean(),
        "codebook": (chosen - rows.detach()).square().mean(),
        "commitment": config.commitment * (chosen.detach() - rows).square().mean(),
        "entropy_sample": config.entropy_sample * torch.distributions.Categorical(probs=probabilities).entropy().mean(),
        "entropy_batch": -config.entropy_batch * torch.distributions.Categorical(probs=mean).entropy(),
    }


@pytest.mark.parametrize("name", ["vectors", *LOSSES])
def test_values_and_gradients_equal_plain_autograd_in_float64(name: str) -> None:
    quantizer = soften(make(entropy_sample=0.3, entropy_batch=0.7, commitment=0.4, quantization=0.8))
    z, upstream = torch.randn(3, 4, 5, requires_grad=True), torch.randn(3, 4, 5)
    rows, codebook = rows_of(z).requires_grad_(), quantizer.codebook.detach().double().requires_grad_()
    out, (vectors, losses) = quantizer(z), reference(quantizer, rows, codebook)
    assert tuple(out.losses) == LOSSES
    torch.testing.assert_close(rows_of(out.vectors), vectors.detach(), rtol=1e-6, atol=1e-6)
    values = out.losses | {"vectors": (out.vectors * upstream).sum()}
    expected = losses | {"vectors": (vectors * rows_of(upstream)).sum()}
    torch.testing.assert_close(values[name].double(), expected[name], rtol=1e-5, atol=1e-6)
    found = torch.autograd.grad(values[name], (z, quantizer.codebook), allow_unused=True)
    wanted = torch.autograd.grad(expected[name], (rows, codebook), allow_unused=True)
    assert [gradient is None for gradient in found] == [gradient is None for gradient in wanted]
    if found[0] is not None:
        torch.testing.assert_close(rows_of(found[0]), wanted[0], rtol=1e-4, atol=1e-5)
    if found[1] is not None:
        torch.testing.assert_close(found[1].double(), wanted[1], rtol=1e-4, atol=1e-5)


def test_every_code_gets_a_gradient_from_one_feature() -> None:
    """The point of the method: with the usual estimator only the chosen code would learn."""
    quantizer = soften(make())
    quantizer(torch.randn(1, 4, 1)).vectors.sum().backward()
    assert (quantizer.codebook.grad.abs().amax(dim=1) > 0).all()


@pytest.mark.parametrize("loss", [name for name in LOSSES if name != "codebook"])
def test_each_weight_stands_on_one_loss(loss: str) -> None:
    """The commitment weight on the codebook loss is the fault of the authors' code; "codebook" has no weight."""
    z = torch.randn(3, 4, 5)
    plain = soften(make())(z).losses
    twice = soften(make(**{loss: 2 * getattr(IBQQuantizer.Config(), loss)}))(z).losses
    for name in LOSSES:
        torch.testing.assert_close(twice[name], plain[name] * (2 if name == loss else 1))


def test_entropies_are_also_told_without_their_weights() -> None:
    out = soften(make(entropy_sample=0.3, entropy_batch=0.0))(torch.randn(3, 4, 5))
    torch.testing.assert_close(0.3 * out.stats["entropy_sample"], out.losses["entropy_sample"])
    assert 0 < out.stats["entropy_sample"] <= out.stats["entropy_batch"] <= math.log(6)


def test_the_gradient_of_a_nearly_certain_softmax_far_from_zero_keeps_its_digits() -> None:
    """Against float64 autograd: probabilities of 1e-6 beside one of almost 1, codes 1e4 from zero."""
    torch.manual_seed(0)
    logits = torch.tensor([[14.0, 0.0, 1.0, -1.0]]).expand(5, 4).clone().requires_grad_()
    codebook, upstream = torch.randn(4, 3) + 1e4, torch.randn(5, 3)
    softmax_choice(logits, logits.argmax(dim=1), codebook).backward(upstream)
    wide = logits.detach().double().requires_grad_()
    (wide.softmax(dim=1) @ codebook.double()).backward(upstream.double())
    torch.testing.assert_close(logits.grad.double(), wide.grad, rtol=2e-3, atol=0)


def test_ties_go_to_the_lowest_code_and_products_decide() -> None:
    """Not distances: a long code wins over a near one."""
    quantizer = make(num_codes=4, dim=2)
    with torch.no_grad():
        quantizer.codebook.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [3.0, 3.0]]))
    z = torch.tensor([[[0.0], [1.0]], [[1.0], [-1.0]], [[-1.1], [-1.0]], [[0.0], [0.0]]])
    assert quantizer.encode(z)[0].flatten().tolist() == [3, 1, 0, 0]


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-12, 0.0), (1e-2, 5.0), (1.0, 1e4), (1e6, 0.0)])
def test_a_new_quantizer_uses_all_codes_wherever_features_lie(scale: float, offset: float) -> None:
    """Each code is the choice of the feature it was made of; all are equally far from the mean of the features."""
    quantizer = make(num_codes=32, dim=8)
    z = scale * torch.randn(32, 8) + offset
    quantizer.initialise(z)
    assert len(quantizer.encode(z.T.unsqueeze(0))[0].unique()) == 32
    lengths = (quantizer.codebook.double() - z.double().mean(dim=0)).norm(dim=1)
    centre = z.double().mean(dim=0)
    size = float((z.double() - centre).square().sum(dim=1).mean().sqrt())
    expected = max(math.sqrt(SHARPNESS), size, RESOLUTION * float(centre.norm()))
    torch.testing.assert_close(lengths, torch.full_like(lengths, expected), rtol=1e-3, atol=0)


def test_rows_in_one_line_do_not_make_equal_codes() -> None:
    quantizer = make(num_codes=16, dim=2)
    quantizer.initialise(torch.arange(40.0).unsqueeze(1) * torch.tensor([[1.0, 2.0]]))
    assert len(quantizer.codebook.unique(dim=0)) == 16


@pytest.mark.parametrize("mask", [None, torch.tensor([True, False, True, True, False])])
def test_entropies_and_probabilities_equal_autograd_of_their_definitions(mask: Tensor | None) -> None:
    """gradcheck in float64, values against torch.distributions; the divergence from uniform is log k - H."""
    torch.manual_seed(0)
    logits = (3 * torch.randn(5, 7)).double().requires_grad_()
    distribution = torch.distributions.Categorical(logits=logits)
    kept = torch.ones(5, dtype=torch.bool) if mask is None else mask
    torch.testing.assert_close(entropies(logits), distribution.entropy())
    torch.testing.assert_close(divergences_from_uniform(logits), math.log(7) - distribution.entropy())
    torch.testing.assert_close(total_probabilities(logits, mask), distribution.probs[kept].sum(dim=0))
    mean = distribution.probs[kept].mean(dim=0)
    torch.testing.assert_close(entropy(mean), torch.distributions.Categorical(probs=mean).entropy())
    functions: tuple[Callable[[Tensor], Tensor], ...] = (
        entropies,
        divergences_from_uniform,
        lambda logits: total_probabilities(logits, mask),
        lambda logits: entropy(total_probabilities(logits, mask) / 5),
    )
    assert all(torch.autograd.gradcheck(function, (logits,)) for function in functions)


def test_entropy_is_finite_where_a_probability_is_zero() -> None:
    zeros = torch.zeros(4, requires_grad=True)
    entropy(zeros).backward()
    assert zeros.grad.isfinite().all()
    assert float(entropy(torch.tensor([1.0, 0.0]))) == 0.0
    assert float(entropy(torch.full((8,), 1 / 8))) == pytest.approx(math.log(8))
    assert divergences_from_uniform(torch.zeros(3, 8)).abs().max() < 1e-6


def test_taking_rows_in_slices_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the last slice is short, and when there are no rows."""
    torch.manual_seed(0)
    logits, codebook = torch.randn(10, 7, requires_grad=True), torch.randn(7, 3, requires_grad=True)
    codes, upstream = logits.argmax(dim=1), torch.randn(10, 3)

    def results() -> list[Tensor]:
        values = (softmax_choice(logits, codes, codebook) * upstream).sum()
        values = values + entropies(logits).square().sum() + total_probabilities(logits).square().sum()
        return [values, *torch.autograd.grad(values, (logits, codebook))]

    whole = results()
    monkeypatch.setattr(softmax_choice_module, "CHUNK_ELEMENTS", 21)
    assert len(row_slices(10, 7)) == 4
    for found, expected in zip(results(), whole, strict=True):
        torch.testing.assert_close(found, expected)
    assert entropies(torch.zeros(0, 7)).shape == (0,)
    assert (total_probabilities(torch.zeros(0, 7)) == 0).all()


def test_nothing_of_the_size_of_the_logits_is_kept_beside_them() -> None:
    """One (n, k) tensor for the backward pass, however many terms need the softmax, and no one-hot codes."""
    quantizer, n, k = make(num_codes=50, dim=4), 40, 50
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.numel() >= n * k:
            kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        quantizer(torch.randn(1, 4, n, requires_grad=True))
    assert [tuple(tensor.shape) for tensor in kept.values()] == [(n, k)]


def test_the_mean_of_probabilities_is_taken_over_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums and counts of unequal parts are added before the entropy; an empty part adds nothing."""
    quantizer = soften(make()).train()
    z = torch.randn(1, 4, 9)
    whole = quantizer(z).losses["entropy_batch"]
    sent: list[Tensor] = []

    def note(values: Tensor, training: bool) -> Tensor:
        assert training
        sent.append(values.detach())
        return values

    monkeypatch.setattr(ibq_module, "sum_over_ranks", note)
    for part in (z[:, :, :2], z[:, :, 2:], z[:, :, :0]):
        quantizer(part)
    assert [float(values[-1]) for values in sent] == [2.0, 7.0, 0.0]
    monkeypatch.setattr(ibq_module, "sum_over_ranks", lambda values, _: values + sent[1] + sent[2])
    torch.testing.assert_close(quantizer(z[:, :, :2]).losses["entropy_batch"], whole)


@pytest.mark.parametrize("train", [True, False])
def test_compiled_in_one_graph_it_is_the_same(train: bool) -> None:
    torch._dynamo.reset()
    quantizer = soften(make()).train(train)
    compiled = torch.compile(quantizer, fullgraph=True, backend="aot_eager")
    z, mask = torch.randn(2, 4, 5), torch.tensor([[True] * 5, [True, False] * 2 + [True]])
    results = []
    for module in (quantizer, compiled):
        own = z.clone().requires_grad_()
        out = module(own, mask)
        loss = out.vectors.square().sum() + sum(out.losses.values())
        results.append((out.vectors, out.codes, out.losses, torch.autograd.grad(loss, (own, quantizer.codebook))))
    torch.testing.assert_close(results[1], results[0])
    assert torch.equal(results[1][0], results[0][0])


def test_recomputation_copies_and_half_precision_change_nothing() -> None:
    quantizer = soften(make())
    z = torch.randn(3, 4, 5, requires_grad=True)

    def loss(z: Tensor) -> Tensor:
        out = quantizer(z)
        return out.vectors.square().sum() + sum(out.losses.values())

    plain = torch.autograd.grad(loss(z), (z, quantizer.codebook))
    again = torch.autograd.grad(checkpoint(loss, z, use_reentrant=False), (z, quantizer.codebook))
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    for twin in (copy.deepcopy(quantizer), pickle.loads(pickle.dumps(quantizer)), copy.deepcopy(quantizer).bfloat16()):
        assert torch.equal(twin(z).vectors, quantizer(z).vectors)
    double = quantizer(z.detach().double())
    assert torch.equal(double.vectors, quantizer.decode(double.codes).double())


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_codes", 0), ("dim", 1), ("commitment", -1.0), ("quantization", -1.0), ("entropy_batch", -0.1)],
)
def test_values_out_of_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        structure({field: value}, IBQQuantizer.Config)
