"""The projected quantizer: two linear maps around a quantizer, and where they start."""

import numpy as np
import pytest
import torch
from torch import Tensor

from dvgen.assembly import build
from dvgen.discovery import discover
from dvgen.errors import ConfigError, NonFiniteError, ShapeError
from dvgen.experiment import Choice
from dvgen.interfaces.quantizer import Quantizer, Traits

REGISTRY = discover().registry
VQ = {"use": "vq", "num_codes": 5, "dim": 2}


def make(width: int = 4, start: bool = True, **inner: object) -> Quantizer:
    torch.manual_seed(0)
    quantizer = build(REGISTRY, "quantizer", Choice(use="projected", fields={"dim": width, "inner": inner or VQ}))
    if start:
        quantizer.initialise(torch.randn(100, width))
    return quantizer


def features(seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(seed)).to(dtype)


def half_mask() -> Tensor:
    return torch.rand(3, 5, generator=torch.Generator().manual_seed(3)) < 0.5


def reference(quantizer: Quantizer, z: Tensor) -> dict[str, Tensor]:
    """Vectors and codes of rows z (n, 4) in float64, by the formulas of the class, with the usual straight-through."""
    weight = {name: value.double() for name, value in quantizer.named_parameters()}
    y = (z - quantizer.origin.double()) @ weight["input.weight"].T + weight["input.bias"]
    codebook = weight["inner.codebook"]
    codes = torch.cdist(y, codebook).argmin(dim=1)
    chosen = codebook[codes]
    q = y + (chosen - y).detach()
    vectors = q @ weight["output.weight"].T + weight["output.bias"]
    return {
        "codes": codes,
        "vectors": vectors,
        "codebook": (chosen - y.detach()).square().mean(),
        "commitment": 0.25 * (y - chosen.detach()).square().mean(),
    }


def test_values_and_all_gradients_are_those_of_the_formulas_in_float64():
    quantizer, z = make(), features()
    rows = z.movedim(1, -1).reshape(-1, 4).double().requires_grad_()
    expected, upstream = reference(quantizer, rows), torch.randn(15, 4)
    named = dict(quantizer.named_parameters())
    (expected["vectors"] * upstream).sum().add(expected["codebook"] + expected["commitment"]).backward()
    wanted = {name: parameter.grad.clone() for name, parameter in named.items()}
    quantizer.zero_grad()
    z.requires_grad_()
    out = quantizer(z)
    vectors = out.vectors.movedim(1, -1).reshape(-1, 4)
    assert torch.equal(out.codes[0].flatten(), expected["codes"])
    torch.testing.assert_close(vectors.double(), expected["vectors"], rtol=1e-5, atol=1e-6)
    for name in ("codebook", "commitment"):
        torch.testing.assert_close(out.losses[name].double(), expected[name], rtol=1e-5, atol=0)
    ((vectors * upstream).sum() + sum(out.losses.values())).backward()
    torch.testing.assert_close(z.grad.movedim(1, -1).reshape(-1, 4).double(), rows.grad, rtol=1e-4, atol=1e-5)
    for name, parameter in named.items():
        assert (parameter.grad != 0).any(), name
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_decode_gives_the_vectors_bit_for_bit_and_zero_where_masked(masked, double, dtype):
    """The bias of the output map would show through a mask."""
    quantizer = make().double() if double else make()
    torch.nn.init.ones_(quantizer.output.bias)
    mask = half_mask() if masked else None
    out = quantizer(features(dtype=dtype), mask)
    assert torch.equal(quantizer.decode(out.codes).to(dtype), out.vectors)
    if mask is not None:
        assert (out.vectors.movedim(1, -1)[~mask] == 0).all()


def test_codes_and_vectors_of_a_position_do_not_depend_on_its_batch():
    quantizer = make(64, use="vq", num_codes=64, dim=8)
    z = torch.randn(7, 64, 9) + 100
    whole = quantizer(z)
    for b in range(7):
        for i in range(9):
            one = quantizer(z[b : b + 1, :, i : i + 1])
            assert one.codes[0].item() == whole.codes[0][b, i].item()
            assert torch.equal(one.vectors[0, :, 0], whole.vectors[b, :, i])


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-5, 0.0), (1e6, 1e4), (1.0, 300.0)])
def test_initialise_keeps_the_most_variance_whitened_and_can_give_it_back(scale, offset):
    """Against numpy's singular values: inner features are white, and what is lost is the variance of the other directions."""
    quantizer = make(start=False)
    mixing = torch.randn(4, 4, dtype=torch.float64) @ torch.diag(torch.tensor([3.0, 2.0, 0.5, 0.1], dtype=torch.float64))
    z = ((torch.randn(500, 4, dtype=torch.float64) @ mixing.T) * scale + offset).float()
    quantizer.initialise(z)
    y = quantizer._inward(z).double()
    torch.testing.assert_close(y.mean(dim=0), torch.zeros(2).double(), rtol=0, atol=1e-3)
    torch.testing.assert_close(y.T @ y / 500, torch.eye(2).double(), rtol=0, atol=2e-3)
    centred = z.double() - z.double().mean(dim=0)
    variances = torch.from_numpy(np.linalg.svd(centred.numpy(), compute_uv=False)) ** 2 / 500
    error = (quantizer._outward(y).double() - z.double()).square().sum(dim=1).mean()
    torch.testing.assert_close(error, variances[2:].sum(), rtol=1e-2, atol=0)


@pytest.mark.parametrize(
    "rows",
    [
        torch.full((5, 4), 3.0),
        torch.zeros(1, 4),
        torch.randn(1, 4).repeat(9, 1),
        torch.tensor([[1], [1 + 4e-6]]).expand(2, 4),
    ],
)
def test_features_that_hardly_vary_start_finite_maps_and_codes_that_differ(rows):
    quantizer = make(start=False)
    quantizer.initialise(rows)
    assert all(value.isfinite().all() for value in quantizer.state_dict().values())
    vectors = quantizer.decode((torch.arange(5).unsqueeze(0),))[0].T
    assert len(vectors.unique(dim=0)) == 5


def test_initialise_lets_a_quantizer_of_fixed_vectors_use_its_codes():
    """Features far from zero and close together: signs and rounding would tell none of them apart."""
    z = 5 + 1e-3 * torch.randn(400, 4)
    for inner, codes in (({"use": "lfq", "bits": 2}, 4), ({"use": "fsq", "levels_per_channel": [3, 3]}, 9)):
        quantizer = make(start=False, **inner)
        quantizer.initialise(z)
        assert len(quantizer.encode(z.T.unsqueeze(0))[0].unique()) == codes


def test_bad_rows_move_nothing():
    quantizer = make()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    for rows in (torch.randn(5, 3), torch.randn(0, 4), torch.randn(5, 4, 1)):
        with pytest.raises(ShapeError, match=r"\(n, 4\)"):
            quantizer.initialise(rows)
    with pytest.raises(NonFiniteError, match="initialise"):
        quantizer.initialise(torch.full((5, 4), torch.nan))
    assert all(torch.equal(before[name], value) for name, value in quantizer.state_dict().items())


def test_update_schedule_and_losses_are_the_inner_ones():
    quantizer = make(use="ema", num_codes=4, dim=2)
    out = quantizer(features())
    y = quantizer._inward(features().movedim(1, -1).reshape(-1, 4))
    inner = quantizer.inner(y.T.unsqueeze(0))
    assert set(out.losses) == set(inner.losses)
    for name, value in inner.pending.items():
        torch.testing.assert_close(out.pending[name], value)
    before = quantizer.inner.codebook.clone()
    quantizer.update(out.pending)
    assert not torch.equal(before, quantizer.inner.codebook)
    gumbel = make(use="gumbel", num_codes=4, dim=2)
    gumbel.schedule(10**6)
    assert gumbel.inner.temperature == gumbel.inner.config.temperature_end


def test_statistics_are_those_of_the_projections():
    """Nothing draws the vectors to the features themselves, so their distance would say nothing."""
    quantizer, z, mask = make(), features(), half_mask()
    out = quantizer(z, mask)
    y = quantizer._inward(z.movedim(1, -1)[mask])
    inner = quantizer.inner(y.T.unsqueeze(0))
    assert out.stats.keys() == inner.stats.keys()
    for name, value in inner.stats.items():
        torch.testing.assert_close(out.stats[name], value)


def test_traits_and_determinism():
    assert make().traits == Traits(estimator="smooth")
    gumbel = make(use="gumbel", num_codes=4, dim=2)
    assert gumbel.traits == Traits(estimator="softmax")
    assert not gumbel.deterministic
    assert make().deterministic


def test_projection_of_a_residual_of_products_decodes_every_prefix():
    product = {"use": "product", "groups": 2, "inner": {"use": "ema", "num_codes": 3, "dim": 2}}
    quantizer = make(use="residual", levels=2, inner=product)
    names = [level.name for level in quantizer.levels((5,))]
    assert names == ["residual0-group0", "residual0-group1", "residual1-group0", "residual1-group1"]
    out = quantizer(features(), half_mask())
    assert torch.equal(quantizer.decode(out.codes), out.vectors)
    for count in range(1, 4):
        vectors = quantizer.decode(out.codes[:count])
        assert (vectors.movedim(1, -1)[~half_mask()] == 0).all()
        assert (vectors.movedim(1, -1)[half_mask()] != 0).any()


def test_a_projection_to_more_dimensions_is_refused():
    with pytest.raises(ConfigError, match="dim 4 is less than the width 8 of the inner quantizer 'vq'"):
        make(use="vq", dim=8)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_compiles_whole_and_agrees_with_eager(train, masked):
    quantizer, mask = make().train(train), half_mask() if masked else None
    z, twin = features().requires_grad_(), features().requires_grad_()
    eager = quantizer(twin, mask)
    compiled = torch.compile(quantizer, fullgraph=True, backend="aot_eager")(z, mask)
    assert torch.equal(compiled.vectors, eager.vectors)
    assert torch.equal(compiled.codes[0], eager.codes[0])
    torch.testing.assert_close(compiled.losses, eager.losses)
    upstream = features(2)
    torch.testing.assert_close(
        torch.autograd.grad(compiled.vectors, z, upstream), torch.autograd.grad(eager.vectors, twin, upstream)
    )
