"""The product quantizer is one independent quantizer a group of channels."""

import pytest
import torch
from torch import Tensor

from dvgen.assembly import build
from dvgen.discovery import discover
from dvgen.errors import ConfigError, NonFiniteError, ShapeError
from dvgen.experiment import Choice
from dvgen.interfaces.quantizer import Quantizer, Traits

REGISTRY = discover().registry
INNER = {
    "ema": {"use": "ema", "num_codes": 4, "dim": 3},
    "vq": {"use": "vq", "num_codes": 4, "dim": 3},
    "gumbel": {"use": "gumbel", "num_codes": 4, "dim": 3},
    "residual": {"use": "residual", "levels": 2, "inner": {"use": "ema", "num_codes": 4, "dim": 3}},
}


def made(use: str, **fields: object) -> Quantizer:
    return build(REGISTRY, "quantizer", Choice(use=use, fields=fields))


def make(inner: str = "ema", groups: int = 2) -> Quantizer:
    torch.manual_seed(0)
    return made("product", groups=groups, inner=INNER[inner])


def alone(inner: str, groups: int = 2) -> list[Quantizer]:
    """The same quantizers, each made on its own."""
    torch.manual_seed(0)
    fields = dict(INNER[inner])
    return [made(str(fields["use"]), **{k: v for k, v in fields.items() if k != "use"}) for _ in range(groups)]


def features(seed: int = 1, dtype: torch.dtype = torch.float32, groups: int = 2) -> Tensor:
    return torch.randn(4, 3 * groups, 5, generator=torch.Generator().manual_seed(seed)).to(dtype)


def half_mask() -> Tensor:
    return torch.rand(4, 5, generator=torch.Generator().manual_seed(3)) < 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("inner", list(INNER))
def test_it_equals_independent_quantizers_bit_for_bit_through_updates(inner, masked, dtype):
    """Vectors, codes, losses, gradients, and the state after initialise, schedule and three updates."""
    product, singles, mask = make(inner), alone(inner), half_mask() if masked else None
    rows = torch.randn(60, 6)
    torch.manual_seed(5)
    product.initialise(rows)
    torch.manual_seed(5)
    for i, single in enumerate(singles):
        single.initialise(rows[:, 3 * i : 3 * i + 3])
    for step in range(3):
        z = features(step, dtype).requires_grad_()
        product.schedule(step)
        torch.manual_seed(step)
        out = product(z, mask)
        torch.manual_seed(step)
        outs = []
        for i, single in enumerate(singles):
            single.schedule(step)
            outs.append(single(z[:, 3 * i : 3 * i + 3], mask))
        assert torch.equal(out.vectors, torch.cat([one.vectors for one in outs], dim=1))
        codes = [code for one in outs for code in one.codes]
        assert all(torch.equal(a, b) for a, b in zip(out.codes, codes, strict=True))
        expected = {f"{i}.{name}": loss for i, one in enumerate(outs) for name, loss in one.losses.items()}
        assert out.losses == expected
        upstream = features(9, dtype)
        (gradient,) = torch.autograd.grad(out.vectors, z, upstream)
        separate = torch.autograd.grad(torch.cat([one.vectors for one in outs], dim=1), z, upstream)[0]
        assert torch.equal(gradient, separate)
        product.update(out.pending)
        for single, one in zip(singles, outs, strict=True):
            single.update(one.pending)
    states = [value for single in singles for value in single.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(product.state_dict().values(), states, strict=True))


@pytest.mark.parametrize("inner", list(INNER))
def test_a_prefix_decodes_to_its_groups_and_zeros(inner):
    product = make(inner, groups=3).eval()
    out = product(features(groups=3))
    depth = len(out.codes) // 3
    for count in range(1, 3):
        vectors = product.decode(out.codes[: depth * count])
        assert torch.equal(vectors[:, : 3 * count], out.vectors[:, : 3 * count])
        assert (vectors[:, 3 * count :] == 0).all()
    assert torch.equal(product.decode(out.codes), out.vectors)
    if depth == 2:
        assert torch.equal(product.decode(out.codes[:1])[:, :3], product.stages[0].decode(out.codes[:1]))
    for wrong in ((), (*out.codes, out.codes[0])):
        with pytest.raises(ShapeError, match=f"codes of 1 to {3 * depth} levels"):
            product.decode(wrong)


def test_the_vector_is_the_nearest_of_all_combinations():
    product = make("vq")
    z = features()
    grid = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    table = torch.cat([product.stages[i].codebook.detach()[grid[:, i]] for i in range(2)], dim=1).double()
    distances = (z.movedim(1, -1).double().unsqueeze(-2) - table).square().sum(dim=-1)
    first, second = product.encode(z)
    assert torch.equal(first * 4 + second, distances.argmin(dim=-1))


@pytest.mark.parametrize("mask", [None, half_mask()])
def test_statistics_are_those_of_all_channels(mask):
    product, z = make("vq"), features()
    out = product(z, mask)
    keep = torch.ones(4, 5, dtype=torch.bool) if mask is None else mask
    rows, vectors = z.movedim(1, -1)[keep], out.vectors.movedim(1, -1)[keep].detach()
    torch.testing.assert_close(out.stats["quantization_error"], (rows - vectors).square().mean())
    torch.testing.assert_close(out.stats["feature_variance"], rows.var(dim=0, correction=0).mean())
    torch.testing.assert_close(out.stats["feature_norm"], rows.square().sum(dim=1).mean().sqrt())
    torch.testing.assert_close(out.stats["vector_norm"], vectors.square().sum(dim=1).mean().sqrt())
    assert out.stats["finite"] == 1
    for i, codes in enumerate(out.codes):
        assert torch.equal(out.stats[f"counts_{i}"], torch.bincount(codes[keep], minlength=4))


def test_traits_and_determinism_follow_the_inner_quantizer():
    nearest = Traits(estimator="straight-through", nearest=True, idempotent=True)
    assert make("ema", groups=1).traits == nearest
    assert make("ema").traits == Traits(estimator="straight-through", nearest=True, idempotent=True, composition="product")
    assert make("gumbel").traits == Traits(estimator="softmax", composition="product")
    assert make("residual").traits == Traits(estimator="straight-through", composition="residual")
    assert make("ema").deterministic
    assert not make("gumbel").deterministic


def test_levels_are_named_after_groups():
    assert [level.name for level in make("ema").levels((5,))] == ["group0", "group1"]
    joined = ["group0-residual0", "group0-residual1", "group1-residual0", "group1-residual1"]
    assert [level.name for level in make("residual").levels((5,))] == joined
    nested = made("product", groups=2, inner={"use": "product", "groups": 2, "inner": INNER["ema"]})
    assert nested.dim == 12
    assert nested.levels((5,))[3].name == "group1-group1"


def test_a_fault_is_told_of_all_channels_at_once():
    product, z = make(), features()
    z[0, 0, 0] = z[1, 5, 1] = torch.nan
    with pytest.raises(NonFiniteError, match="2 of 120"):
        product(z)
    with pytest.raises(ShapeError, match=r"\(b, 6, \*grid\)"):
        product(z[:, :5])
    with pytest.raises(ShapeError, match=r"\(n, 6\)"):
        product.initialise(torch.randn(4, 5))


def test_no_groups_are_refused():
    with pytest.raises(ConfigError, match="'groups' must be >= 1"):
        make(groups=0)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("inner", ["vq", "residual"])
def test_compiles_whole_and_agrees_with_eager(inner, train):
    product = make(inner).train(train)
    eager, z = product(features(), half_mask()), features().requires_grad_()
    compiled = torch.compile(product, fullgraph=True, backend="aot_eager")(z, half_mask())
    assert torch.equal(compiled.vectors, eager.vectors)
    assert all(torch.equal(a, b) for a, b in zip(compiled.codes, eager.codes, strict=True))
    torch.testing.assert_close(compiled.losses, eager.losses)
    (gradient,) = torch.autograd.grad(compiled.vectors, z, features(2))
    assert torch.equal(gradient, torch.where(half_mask().unsqueeze(1), features(2), 0))
