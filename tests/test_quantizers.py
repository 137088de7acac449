"""The rules that every quantizer keeps, whichever plugin supplies it."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from dvgen.assembly import build
from dvgen.config import unstructure
from dvgen.discovery import discover
from dvgen.errors import NonFiniteError, ShapeError
from dvgen.experiment import Choice
from dvgen.interfaces.quantizer import Quantized, Quantizer

REGISTRY = discover().registry
NAMES = REGISTRY.names("quantizer")
GRIDS = [(5,), (3, 4), (2, 3, 2)]


def untrained(name: str) -> Quantizer:
    tiny = REGISTRY.load("quantizer", name).tiny()
    return build(REGISTRY, "quantizer", Choice(use=name, fields=unstructure(tiny)))


def make(name: str) -> Quantizer:
    torch.manual_seed(0)
    quantizer = untrained(name)
    quantizer.initialise(torch.randn(200, quantizer.dim))
    return quantizer


def features(quantizer: Quantizer, grid: tuple[int, ...] = (3, 4), batch: int = 6, seed: int = 1) -> Tensor:
    return torch.randn(batch, quantizer.dim, *grid, generator=torch.Generator().manual_seed(seed))


def half_mask(grid: tuple[int, ...] = (3, 4), batch: int = 6) -> Tensor:
    return torch.rand(batch, *grid, generator=torch.Generator().manual_seed(9)) < 0.5


def state_of(quantizer: Quantizer) -> dict[str, Tensor]:
    return copy.deepcopy(quantizer.state_dict())


def assert_same(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)


def tensors(quantized: Quantized) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {"vectors": quantized.vectors}
    for group in (quantized.losses, quantized.stats, quantized.pending):
        named |= group
    return named | {f"codes_{i}": code for i, code in enumerate(quantized.codes)}


@pytest.fixture(params=NAMES)
def quantizer(request: pytest.FixtureRequest) -> Any:
    return make(request.param)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("train", [True, False])
def test_shapes_and_ranges_on_any_grid(quantizer: Quantizer, grid: tuple[int, ...], train: bool) -> None:
    z = features(quantizer, grid)
    out = quantizer.train(train)(z)
    levels = quantizer.levels(grid)
    assert out.vectors.shape == z.shape
    assert len(out.codes) == len(levels)
    for i, (codes, level) in enumerate(zip(out.codes, levels, strict=True)):
        assert codes.dtype == torch.int64
        assert codes.shape == (6, *level.grid)
        assert 0 <= int(codes.min()) <= int(codes.max()) < level.num_codes
        assert torch.equal(out.stats[f"counts_{i}"], torch.bincount(codes.flatten(), minlength=level.num_codes))
        assert 1 <= float(out.stats[f"perplexity_{i}"]) <= level.num_codes + 1e-3
    assert all(loss.ndim == 0 and loss.isfinite() for loss in out.losses.values())
    assert not any(value.requires_grad for value in (*out.stats.values(), *out.pending.values()))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("train", [True, False])
def test_decode_gives_the_vectors_bit_for_bit(quantizer: Quantizer, train: bool, masked: bool) -> None:
    if train and not quantizer.deterministic:
        pytest.skip("promised in evaluation only")
    out = quantizer.train(train)(features(quantizer), half_mask() if masked else None)
    assert torch.equal(quantizer.decode(out.codes), out.vectors)


@pytest.mark.parametrize("masked", [False, True])
def test_encode_gives_the_codes_of_evaluation(quantizer: Quantizer, masked: bool) -> None:
    z, mask = features(quantizer), half_mask() if masked else None
    in_training = quantizer.encode(z, mask)
    out = quantizer.eval()(z, mask)
    for codes in (in_training, quantizer.encode(z, mask)):
        assert all(torch.equal(a, b) for a, b in zip(codes, out.codes, strict=True))


@pytest.mark.parametrize("train", [True, False])
def test_forward_encode_and_decode_change_no_state(quantizer: Quantizer, train: bool) -> None:
    before, random = state_of(quantizer.train(train)), torch.get_rng_state()
    z = features(quantizer)
    out = quantizer(z.requires_grad_())
    sum([out.vectors.sum(), *out.losses.values()]).backward()
    quantizer.decode(quantizer.encode(z))
    assert_same(before, state_of(quantizer))
    if not train or quantizer.deterministic:
        assert torch.equal(random, torch.get_rng_state())


def test_outputs_alias_no_state(quantizer: Quantizer) -> None:
    z = features(quantizer)
    before = state_of(quantizer.eval())
    with torch.no_grad():
        for value in (*tensors(quantizer(z)).values(), quantizer.decode(quantizer.encode(z))):
            value.add_(1)
    assert_same(before, state_of(quantizer))


def test_a_mask_equals_dropping_the_positions(quantizer: Quantizer) -> None:
    """And what lies under the mask, NaN included, reaches nothing: not losses, not statistics, not gradients."""
    quantizer.eval()
    mask = half_mask()
    dirty = features(quantizer)
    dirty.movedim(1, -1)[~mask] = torch.nan
    dirty.requires_grad_()
    out = quantizer(dirty, mask)
    kept = dirty.detach().movedim(1, -1)[mask].T.unsqueeze(0).requires_grad_()
    dense = quantizer(kept)
    assert all((codes[~mask] == -1).all() for codes in out.codes)
    assert (out.vectors.movedim(1, -1)[~mask] == 0).all()
    for codes, dense_codes in zip(out.codes, dense.codes, strict=True):
        assert torch.equal(codes[mask], dense_codes[0])
    for name, value in (out.losses | out.stats | out.pending).items():
        torch.testing.assert_close(value, (dense.losses | dense.stats | dense.pending)[name])
    sum([out.vectors.square().sum(), *out.losses.values()]).backward()
    sum([dense.vectors.square().sum(), *dense.losses.values()]).backward()
    assert dirty.grad is not None
    assert kept.grad is not None
    torch.testing.assert_close(dirty.grad.movedim(1, -1)[mask], kept.grad[0].T)
    assert (dirty.grad.movedim(1, -1)[~mask] == 0).all()


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("empty", ["no samples", "all masked"])
def test_nothing_valid_gives_zero_losses_and_moves_nothing(quantizer: Quantizer, empty: str, train: bool) -> None:
    z = features(quantizer, batch=0 if empty == "no samples" else 6).requires_grad_()
    mask = None if empty == "no samples" else torch.zeros(6, 3, 4, dtype=torch.bool)
    before = state_of(quantizer.train(train))
    out = quantizer(z, mask)
    assert all(loss == 0 for loss in out.losses.values())
    assert all(value.isfinite().all() for value in out.stats.values())
    sum([out.vectors.sum(), *out.losses.values()]).backward()
    assert all(p.grad is None or (p.grad == 0).all() for p in quantizer.parameters())
    quantizer.update(out.pending)
    assert_same(before, state_of(quantizer))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_bad_values_raise_and_move_nothing(quantizer: Quantizer, bad: float) -> None:
    z = features(quantizer)
    z[2, 1, 0, 3] = bad
    before = state_of(quantizer)
    for act in (quantizer, quantizer.encode):
        with pytest.raises(NonFiniteError, match="1 of"):
            act(z)
    if type(quantizer).initialise is not Quantizer.initialise:  # one without a codebook has nothing to initialise
        with pytest.raises(NonFiniteError):
            quantizer.initialise(z.movedim(1, -1).flatten(0, -2))
    assert_same(before, state_of(quantizer))


def test_wrong_shapes_raise(quantizer: Quantizer) -> None:
    z = features(quantizer)
    for wrong in (z[:, :-1], z[:, :, 0, 0], z.long()):
        with pytest.raises(ShapeError, match="features"):
            quantizer(wrong)
    for mask in (torch.ones(6, 4, 3, dtype=torch.bool), torch.ones(6, 3, 4)):
        with pytest.raises(ShapeError, match="mask"):
            quantizer(z, mask)


def test_codes_out_of_range_raise_and_masked_codes_are_zero(quantizer: Quantizer) -> None:
    codes = quantizer.encode(features(quantizer))
    levels = quantizer.levels((3, 4))
    for level, bad in ((0, levels[0].num_codes), (-1, -2)):
        wrong = [code.clone() for code in codes]
        wrong[level][1, 2, 3] = bad
        with pytest.raises(ShapeError):
            quantizer.decode(tuple(wrong))
    nothing = quantizer.decode(tuple(torch.full_like(code, -1) for code in codes))
    assert nothing.shape == (6, quantizer.dim, 3, 4)
    assert (nothing == 0).all()


def test_pending_of_micro_batches_adds_up_to_that_of_the_batch(quantizer: Quantizer) -> None:
    quantizer.eval()
    z = features(quantizer)
    whole = quantizer(z).pending
    parts = [quantizer(part).pending for part in (z[:1], z[1:4], z[4:])]
    for name, value in whole.items():
        assert value.is_floating_point()
        assert all(part[name].shape == value.shape for part in parts)
        torch.testing.assert_close(sum(part[name] for part in parts), value)


def test_positions_do_not_see_each_other(quantizer: Quantizer) -> None:
    quantizer.eval()
    z = features(quantizer)
    alone = torch.cat([quantizer.encode(z[i : i + 1])[0] for i in range(6)])
    assert torch.equal(quantizer.encode(z)[0], alone)
    assert torch.equal(quantizer.encode(z.flip(2))[0], alone.flip(1))


def test_training_step_is_reproducible_from_a_saved_state(quantizer: Quantizer) -> None:
    z = features(quantizer)
    quantizer.update(quantizer(z).pending)
    twin = untrained(next(name for name in NAMES if REGISTRY.load("quantizer", name) is type(quantizer)))
    twin.load_state_dict(quantizer.state_dict(), strict=True)
    outs = []
    for one in (quantizer, twin):
        torch.manual_seed(3)
        outs.append(one(z))
        one.update(outs[-1].pending)
    assert_same(tensors(outs[0]), tensors(outs[1]))
    assert_same(state_of(quantizer), state_of(twin))


def test_autocast_changes_nothing(quantizer: Quantizer) -> None:
    quantizer.eval()
    z = features(quantizer)
    plain = tensors(quantizer(z))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(plain, tensors(quantizer(z)))


def test_half_precision_features_get_the_codes_of_their_exact_values(quantizer: Quantizer) -> None:
    z = features(quantizer).bfloat16().requires_grad_()
    out = quantizer.eval()(z)
    assert torch.equal(out.codes[0], quantizer.encode(z.float())[0])
    assert out.vectors.dtype == torch.bfloat16
    out.vectors.sum().backward()
    assert z.grad is not None
    assert z.grad.dtype == torch.bfloat16


def test_every_parameter_stands_in_one_group(quantizer: Quantizer) -> None:
    grouped = [id(parameter) for group in quantizer.parameter_groups() for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in quantizer.parameters())


@pytest.mark.parametrize("rows", [1, 2, 50])
def test_initialise_makes_different_finite_codes_from_any_number_of_rows(quantizer: Quantizer, rows: int) -> None:
    """Repeated rows as well, and whatever their scale: a code equal to another would never be chosen."""
    for scale in (0.0, 1e-12, 1.0, 1e6):
        z = scale * torch.randn(rows, quantizer.dim).repeat(3, 1)
        quantizer.initialise(z)
        assert all(value.isfinite().all() for value in quantizer.state_dict().values())
        num_codes = quantizer.levels((1,))[0].num_codes
        codes = torch.arange(num_codes).unsqueeze(0)
        vectors = quantizer.decode((codes,) * len(quantizer.levels((num_codes,))))[0].T
        assert len(vectors.unique(dim=0)) == num_codes


def test_initialise_repeats_itself_from_torchs_random_state(quantizer: Quantizer) -> None:
    z = torch.randn(100, quantizer.dim)
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        quantizer.initialise(z)
        states.append(state_of(quantizer))
    assert_same(*states)
