"""SimVQ: losses and gradients of the linear map, codes that decode as they were looked up, the start from data."""

import copy
import pickle

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dvgen.config import structure
from dvgen.errors import ConfigError, NonFiniteError, ShapeError
from dvgen_simvq.quantizer import FLOOR, SimVQQuantizer


def make(**fields: object) -> SimVQQuantizer:
    torch.manual_seed(0)
    return SimVQQuantizer(SimVQQuantizer.Config(**({"num_codes": 6, "dim": 4} | fields)))


def rows_of(z: Tensor) -> Tensor:
    """(b, d, n) as float64 rows (b n, d)."""
    return z.detach().movedim(1, 2).flatten(0, 1).double()


def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    wide = rows.double()
    return wide.mean(dim=0), wide.T.cov(correction=0)


@pytest.mark.parametrize("commitment", [0.0, 0.25, 2.0])
def test_losses_and_gradients_equal_plain_autograd_in_float64(commitment: float) -> None:
    """The codebook loss reaches W and b, the commitment loss z, and the weight stands on the commitment alone."""
    quantizer = make(commitment=commitment)
    z, upstream = torch.randn(3, 4, 5, requires_grad=True), torch.randn(3, 4, 5)
    rows, weight, bias = (t.requires_grad_() for t in (rows_of(z), quantizer.weight.detach().double(), torch.zeros(4).double()))
    table = quantizer.basis.double() @ weight + bias
    chosen = table[(rows.unsqueeze(1) - table).square().sum(dim=2).argmin(dim=1)]
    codebook = (rows.detach() - chosen).square().mean()
    committed = commitment * (rows - chosen.detach()).square().mean()

    out = quantizer(z)
    torch.testing.assert_close(out.losses["codebook"].double(), codebook)
    torch.testing.assert_close(out.losses["commitment"].double(), committed)
    (out.vectors * upstream).sum().add(sum(out.losses.values())).backward()
    (rows_of(upstream) * rows).sum().add(codebook + committed).backward()
    torch.testing.assert_close(rows_of(z.grad), rows.grad)
    torch.testing.assert_close(quantizer.weight.grad.double(), weight.grad)
    torch.testing.assert_close(quantizer.bias.grad.double(), bias.grad)


@pytest.mark.parametrize(("loss", "reaches_z", "reaches_map"), [("codebook", False, True), ("commitment", True, False)])
def test_each_loss_reaches_one_side_only(loss: str, reaches_z: bool, reaches_map: bool) -> None:
    quantizer = make()
    z = torch.randn(3, 4, 5, requires_grad=True)
    inputs = (z, quantizer.weight, quantizer.bias)
    gradients = torch.autograd.grad(quantizer(z).losses[loss], inputs, allow_unused=True)
    assert [gradient is not None for gradient in gradients] == [reaches_z, reaches_map, reaches_map]


def test_the_gradient_of_vectors_is_the_estimators() -> None:
    z, upstream = torch.randn(3, 4, 5, requires_grad=True), torch.randn(3, 4, 5)
    straight = make()
    straight(z).vectors.backward(upstream)
    assert torch.equal(z.grad, upstream)
    assert straight.weight.grad is None
    turned = make(estimator="rotation")
    assert turned.traits.estimator == "rotation"
    (gradient,) = torch.autograd.grad(turned(z).vectors, z, upstream)
    assert not torch.equal(gradient, upstream)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("num_codes", [1, 3, 257])
def test_decoding_goes_through_the_map_bit_for_bit(num_codes: int, train: bool) -> None:
    """Of one code as of all: the authors' look-up gives the frozen row instead."""
    quantizer = make(num_codes=num_codes).train(train)
    torch.nn.init.normal_(quantizer.weight)
    torch.nn.init.normal_(quantizer.bias)
    out = quantizer(torch.randn(3, 4, 50))
    assert torch.equal(quantizer.decode(out.codes), out.vectors)
    single = out.codes[0][:1, :1]
    assert torch.equal(quantizer.decode((single,)), out.vectors[:1, :, :1])
    table = quantizer.basis.double() @ quantizer.weight.double() + quantizer.bias.double()
    torch.testing.assert_close(quantizer.codes().double(), table, rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(quantizer.decode(out.codes), out.vectors)


def test_only_the_map_learns_and_without_weight_decay() -> None:
    """One step on one feature moves all codes, and the frozen table stays."""
    quantizer = make()
    before, basis = quantizer.codes().detach().clone(), quantizer.basis.clone()
    (group,) = quantizer.parameter_groups()
    assert group["weight_decay"] == 0.0
    optimizer = torch.optim.SGD([group], lr=0.1)
    quantizer(torch.randn(1, 4, 1)).losses["codebook"].backward()
    optimizer.step()
    assert ((quantizer.codes() - before).abs().amax(dim=1) > 0).all()
    assert torch.equal(quantizer.basis, basis)
    assert "basis" in quantizer.state_dict()


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-12, 0.0), (1e-3, 1.0), (1e6, 3e6), (1.0, 1e4)])
def test_initialised_codes_have_the_moments_of_the_features(scale: float, offset: float) -> None:
    quantizer = make(num_codes=64)
    z = scale * torch.randn(500, 4) @ torch.randn(4, 4) + offset
    quantizer.initialise(z)
    (mean, covariance), (wanted_mean, wanted) = moments(quantizer.codes().detach()), moments(z)
    size = float(wanted.diagonal().max())
    # codes of float32 at this offset cannot lie closer to their mean
    rounding = 1e-6 * offset
    torch.testing.assert_close(mean, wanted_mean, rtol=0, atol=1e-5 * size**0.5 + rounding)
    torch.testing.assert_close(covariance, wanted, rtol=0, atol=1e-4 * size + rounding * size**0.5)


def test_directions_in_which_features_do_not_vary_get_a_small_width() -> None:
    quantizer = make(num_codes=64)
    z = torch.randn(500, 4) * torch.tensor([1.0, 1.0, 0.0, 0.0]) + 3
    quantizer.initialise(z)
    deviations = quantizer.codes().detach().std(dim=0, correction=0)
    spread = z.var(dim=0, correction=0).mean().sqrt()
    torch.testing.assert_close(deviations[2:], (FLOOR * spread).expand(2), rtol=1e-3, atol=0)


@pytest.mark.parametrize(("num_codes", "dim"), [(1, 4), (2, 4), (4, 4), (5, 4), (50, 1), (300, 8)])
@pytest.mark.parametrize("scale", [0.0, 1e-12, 1.0, 1e6])
@pytest.mark.parametrize("rows", [1, 2, 300])
def test_initialised_codes_differ_for_any_shape_scale_and_number_of_rows(
    num_codes: int, dim: int, scale: float, rows: int
) -> None:
    quantizer = make(num_codes=num_codes, dim=dim)
    quantizer.initialise(scale * torch.randn(rows, dim).repeat(2, 1))
    codes = quantizer.codes().detach()
    assert codes.isfinite().all()
    assert len(codes.unique(dim=0)) == num_codes


def test_initialised_codes_are_used_by_features_far_from_the_origin() -> None:
    """A standard normal table is not: its outermost codes are nearest to all of them."""
    quantizer = make(num_codes=64)
    z = 0.01 * torch.randn(4000, 4) + 5
    assert len(quantizer.encode(z.T.unsqueeze(0))[0].unique()) < 10
    quantizer.initialise(z)
    assert len(quantizer.encode(z.T.unsqueeze(0))[0].unique()) > 60


def test_features_that_cannot_be_started_from_are_refused() -> None:
    quantizer = make()
    for wrong in (torch.zeros(0, 4), torch.zeros(4), torch.zeros(3, 5)):
        with pytest.raises(ShapeError, match="initialise"):
            quantizer.initialise(wrong)
    with pytest.raises(NonFiniteError, match="initialise"):
        quantizer.initialise(torch.full((3, 4), torch.nan))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("estimator", ["straight-through", "rotation"])
def test_compiled_in_one_graph_it_is_the_same(estimator: str, train: bool) -> None:
    torch._dynamo.reset()
    quantizer = make(estimator=estimator).train(train)
    compiled = torch.compile(quantizer, fullgraph=True, backend="aot_eager")
    z, mask = torch.randn(2, 4, 5), torch.tensor([[True] * 5, [True, False] * 2 + [True]])
    results = []
    for module in (quantizer, compiled):
        own = z.clone().requires_grad_()
        out = module(own, mask)
        loss = out.vectors.square().sum() + sum(out.losses.values())
        results.append((out.vectors, out.codes, out.losses, torch.autograd.grad(loss, (own, quantizer.weight))))
    torch.testing.assert_close(results[1], results[0])
    assert torch.equal(results[1][0], results[0][0])


def test_recomputation_copies_and_half_precision_change_nothing() -> None:
    """The quantizer keeps float32 inside a model cast to half precision; checkpointing gives the same gradients."""
    quantizer = make()
    z = torch.randn(3, 4, 5, requires_grad=True)
    plain = torch.autograd.grad(quantizer(z).vectors.square().sum() + sum(quantizer(z).losses.values()), quantizer.weight)

    def loss(z: Tensor) -> Tensor:
        out = quantizer(z)
        return out.vectors.square().sum() + sum(out.losses.values())

    again = torch.autograd.grad(checkpoint(loss, z, use_reentrant=False), quantizer.weight)
    assert torch.equal(plain[0], again[0])
    for twin in (copy.deepcopy(quantizer), pickle.loads(pickle.dumps(quantizer)), copy.deepcopy(quantizer).bfloat16()):
        assert torch.equal(twin(z).vectors, quantizer(z).vectors)


@pytest.mark.parametrize(("field", "value"), [("num_codes", 0), ("dim", 0), ("commitment", -1.0), ("estimator", "smooth")])
def test_values_out_of_range_are_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        structure({field: value}, SimVQQuantizer.Config)
