"""The residual quantizer: each level on what is left over, one gradient for the sum, one of its own for each level's loss."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from dvgen.assembly import build
from dvgen.blocks.estimators import rotation
from dvgen.discovery import discover
from dvgen.errors import NonFiniteError, ShapeError
from dvgen.experiment import Choice
from dvgen.interfaces.quantizer import Quantizer, Traits

REGISTRY = discover().registry
TINY = {"use": "ema", "num_codes": 4, "dim": 3}


def make(levels: int = 3, **inner: object) -> Quantizer:
    torch.manual_seed(0)
    chosen = inner if inner.get("use", "ema") != "ema" else TINY | inner
    quantizer = build(REGISTRY, "quantizer", Choice(use="residual", fields={"levels": levels, "inner": chosen}))
    quantizer.initialise(torch.randn(100, quantizer.dim))
    return quantizer


def features(seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(seed)).to(dtype)


def residuals(quantizer: Quantizer, z: Tensor) -> list[Tensor]:
    """What each level sees, from the vectors of the levels alone."""
    left, seen = z.detach(), []
    for stage in quantizer.stages:
        seen.append(left)
        left = left - stage.decode(stage.encode(left)).to(left.dtype)
    return seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("commitment", [0.0, 0.25])
@pytest.mark.parametrize("inner", ["ema", "vq"])
@pytest.mark.parametrize("levels", [1, 2, 4, 8])
def test_gradient_of_the_vectors_reaches_the_features_bit_for_bit(levels, inner, commitment, dtype):
    """dL/dz = dL/dvectors, not that times the number of levels, nor none past the first."""
    quantizer = make(levels, use=inner, num_codes=4, dim=3, commitment=commitment)
    z, upstream = features(dtype=dtype).requires_grad_(), features(2, dtype)
    out = quantizer(z)
    (gradient,) = torch.autograd.grad(out.vectors, z, upstream, retain_graph=True)
    assert torch.equal(gradient, upstream)
    codebooks = list(quantizer.parameters())
    if codebooks:
        reached = torch.autograd.grad(out.vectors, codebooks, upstream, allow_unused=True, retain_graph=True)
        assert all(gradient is None for gradient in reached)


@pytest.mark.parametrize("inner", ["ema", "vq", "simvq"])
def test_commitment_of_every_level_has_its_closed_form_gradient(inner):
    """weight * 2 (r_i - q_i) / numel: r_i carries the gradient of z, and q_j of earlier levels none."""
    quantizer = make(4, use=inner, num_codes=4, dim=3)
    z = features().requires_grad_()
    out = quantizer(z)
    for i, left in enumerate(residuals(quantizer, z)):
        stage = quantizer.stages[i]
        (gradient,) = torch.autograd.grad(out.losses[f"{i}.commitment"], z, retain_graph=True)
        expected = 0.25 * 2 * (left - stage.decode(stage.encode(left)).detach()) / z.numel()
        assert (gradient != 0).any()
        torch.testing.assert_close(gradient, expected)


def test_codebook_loss_of_a_level_reaches_the_codebook_of_that_level_alone():
    quantizer = make(3, use="vq", num_codes=4, dim=3)
    codebooks = [stage.codebook for stage in quantizer.stages]
    z = features().requires_grad_()
    out = quantizer(z)
    for i, left in enumerate(residuals(quantizer, z)):
        gradients = torch.autograd.grad(out.losses[f"{i}.codebook"], [*codebooks, z], retain_graph=True, allow_unused=True)
        assert [g is not None for g in gradients] == [j == i for j in range(3)] + [False]
        rows, codes = left.movedim(1, -1).reshape(-1, 3), out.codes[i].flatten()
        expected = torch.zeros(4, 3).index_add_(0, codes, 2 * (codebooks[i].detach()[codes] - rows) / rows.numel())
        torch.testing.assert_close(gradients[i], expected)


@pytest.mark.parametrize("inner", ["ema", "vq", "simvq"])
def test_code_of_every_level_is_nearest_to_its_residual_in_float64(inner):
    quantizer = make(4, use=inner, num_codes=4, dim=3)
    z = features()
    for stage, left, codes in zip(quantizer.stages, residuals(quantizer, z), quantizer(z).codes, strict=True):
        table = stage.decode((torch.arange(4).unsqueeze(0),))[0].T.double()
        distances = (left.movedim(1, -1).double().unsqueeze(-2) - table).square().sum(dim=-1)
        assert torch.equal(codes, distances.argmin(dim=-1))


def test_a_prefix_decodes_to_the_partial_sum_bit_for_bit():
    quantizer = make(4)
    out = quantizer(features())
    total = None
    for count, stage in enumerate(quantizer.stages, start=1):
        own = stage.decode((out.codes[count - 1],))
        total = own if total is None else total + own
        assert torch.equal(quantizer.decode(out.codes[:count]), total)
    assert torch.equal(total, out.vectors)
    for wrong in ((), (*out.codes, out.codes[0])):
        with pytest.raises(ShapeError, match="codes of 1 to 4 levels"):
            quantizer.decode(wrong)


def test_a_masked_code_of_one_level_adds_nothing():
    """So that positions of one batch may have different numbers of levels."""
    quantizer = make(3)
    codes = quantizer.encode(features())
    short = (codes[0], torch.full_like(codes[1], -1), torch.full_like(codes[2], -1))
    assert torch.equal(quantizer.decode(short), quantizer.decode(codes[:1]))


def test_error_falls_with_every_level_whose_codebook_has_the_origin():
    quantizer = make(8)
    for stage in quantizer.stages:
        stage.codebook[0] = 0
    z = features()
    codes = quantizer.encode(z)
    errors = [(z - quantizer.decode(codes[:count])).square().sum(dim=1) for count in range(1, 9)]
    assert all((later <= earlier + 1e-6).all() for earlier, later in pairwise(errors))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("double", [False, True])
def test_decode_gives_the_vectors_in_every_dtype_of_features_and_codebooks(dtype, double):
    quantizer = make(8)
    quantizer = quantizer.double() if double else quantizer
    out = quantizer(features(dtype=dtype))
    assert torch.equal(quantizer.decode(out.codes).to(dtype), out.vectors)
    assert all(torch.equal(a, b) for a, b in zip(quantizer.encode(features(dtype=dtype)), out.codes, strict=True))


def test_levels_of_half_precision_features_are_those_of_their_exact_values():
    """Rounded residuals would be wrong from the second level on."""
    quantizer, z = make(8), features(dtype=torch.bfloat16)
    for half, full in zip(quantizer(z).codes, quantizer(z.float()).codes, strict=True):
        assert torch.equal(half, full)


def test_update_moves_every_level_as_its_own_quantizer_moves_on_the_residuals():
    quantizer, alone = make(3), make(3)
    z = features()
    seen = residuals(quantizer, z)
    quantizer.update(quantizer(z).pending)
    for stage, left in zip(alone.stages, seen, strict=True):
        stage.update(stage(left).pending)
    assert all(torch.equal(a, b) for a, b in zip(quantizer.state_dict().values(), alone.state_dict().values(), strict=True))


def test_initialise_starts_every_level_on_what_those_before_leave_over():
    quantizer, alone, rows = make(3), make(3), torch.randn(50, 3)
    torch.manual_seed(7)
    quantizer.initialise(rows)
    torch.manual_seed(7)
    for stage in alone.stages:
        stage.initialise(rows)
        rows = rows - stage.codebook[stage.encode(rows.T.unsqueeze(0))[0][0]]
    assert all(torch.equal(a.codebook, b.codebook) for a, b in zip(quantizer.stages, alone.stages, strict=True))


def test_bad_rows_move_nothing():
    quantizer = make(2)
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    with pytest.raises(ShapeError, match=r"\(n, 3\)"):
        quantizer.initialise(torch.randn(5, 2))
    with pytest.raises(NonFiniteError, match="initialise"):
        quantizer.initialise(torch.full((5, 3), torch.nan))
    assert all(torch.equal(before[name], value) for name, value in quantizer.state_dict().items())


def test_statistics_are_those_of_the_sum_and_of_every_level():
    quantizer, z = make(2), features()
    mask = torch.rand(4, 5, generator=torch.Generator().manual_seed(3)) < 0.5
    out = quantizer(z, mask)
    error = (out.vectors - z).movedim(1, -1)[mask].square().mean()
    torch.testing.assert_close(out.stats["quantization_error"], error)
    torch.testing.assert_close(out.stats["1.quantization_error"], error)
    for i, codes in enumerate(out.codes):
        assert torch.equal(out.stats[f"counts_{i}"], torch.bincount(codes[mask], minlength=4))
    assert set(out.losses) == {"0.commitment", "1.commitment"}
    assert {"perplexity_0", "perplexity_1", "0.certified", "finite"} <= set(out.stats)
    assert not {"0.finite", "0.counts_0"} & set(out.stats)


def test_one_level_is_its_inner_quantizer():
    quantizer, z = make(1), features()
    out, inner = quantizer(z), quantizer.stages[0](z)
    assert torch.equal(out.vectors, inner.vectors)
    assert torch.equal(out.codes[0], inner.codes[0])
    assert quantizer.traits == Traits(estimator="straight-through", nearest=True, idempotent=True)
    assert make(2).traits == Traits(estimator="straight-through", composition="residual")


def test_inner_rotation_turns_the_gradient_of_the_sum():
    """The rotation that takes z to the sum of all levels, once; not one a level."""
    quantizer = make(3, estimator="rotation")
    z, upstream = features().requires_grad_(), features(2)
    (gradient,) = torch.autograd.grad(quantizer(z).vectors, z, upstream)
    rows = z.detach().movedim(1, -1).reshape(-1, 3).requires_grad_()
    total = quantizer.decode(quantizer.encode(z)).movedim(1, -1).reshape(-1, 3)
    (expected,) = torch.autograd.grad(rotation(rows, total), rows, upstream.movedim(1, -1).reshape(-1, 3))
    assert torch.equal(gradient.movedim(1, -1).reshape(-1, 3), expected)
    assert quantizer.traits.estimator == "rotation"


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_compiles_whole_and_agrees_with_eager(train, masked):
    quantizer = make(3, use="vq", num_codes=4, dim=3).train(train)
    mask = torch.rand(4, 5, generator=torch.Generator().manual_seed(3)) < 0.5 if masked else None
    eager, z = quantizer(features(), mask), features().requires_grad_()
    compiled = torch.compile(quantizer, fullgraph=True, backend="aot_eager")(z, mask)
    assert torch.equal(compiled.vectors, eager.vectors)
    assert all(torch.equal(a, b) for a, b in zip(compiled.codes, eager.codes, strict=True))
    torch.testing.assert_close(compiled.losses, eager.losses)
    (gradient,) = torch.autograd.grad(compiled.vectors, z, features(2))
    assert torch.equal(gradient, features(2) if mask is None else torch.where(mask.unsqueeze(1), features(2), 0))
