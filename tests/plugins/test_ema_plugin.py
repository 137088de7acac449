"""The codebook by moving averages: the closed form, codes that are not used."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dvgen.config import structure
from dvgen.errors import ConfigError
from dvgen_ema.quantizer import EMAQuantizer

NEVER = 10**9


def make(**fields: float) -> EMAQuantizer:
    torch.manual_seed(0)
    return EMAQuantizer(EMAQuantizer.Config(**({"num_codes": 8, "dim": 3, "revive_after": NEVER} | fields)))


def maps(rows: Tensor) -> Tensor:
    """Rows (n, d) as one map (1, d, n)."""
    return rows.T.unsqueeze(0)


def step(quantizer: EMAQuantizer, rows: Tensor) -> Tensor:
    out = quantizer(maps(rows))
    quantizer.update(out.pending)
    return out.codes[0][0]


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_codebook_is_the_ratio_of_the_averages_in_closed_form(decay: float) -> None:
    """e = sum_s decay^(t-s) m_s / sum_s decay^(t-s) n_s, in float64, for codes that were chosen last (P19).

    The counts of an update sum to decay times what they summed to before, plus (1 - decay) times the number of features.
    """
    quantizer = make(decay=decay)
    counts, sums = torch.zeros(8, dtype=torch.float64), torch.zeros(8, 3, dtype=torch.float64)
    for t in range(1, 7):
        rows = torch.randn(100, 3)
        one_hot = torch.nn.functional.one_hot(step(quantizer, rows), 8).double()
        counts = decay * counts + (1 - decay) * one_hot.sum(dim=0)
        sums = decay * sums + (1 - decay) * one_hot.T @ rows.double()
        chosen = one_hot.sum(dim=0) > 0
        expected = (sums / counts.unsqueeze(1))[chosen]
        torch.testing.assert_close(quantizer.codebook[chosen].double(), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(quantizer.counts.double(), counts, rtol=1e-5, atol=0)
        assert quantizer.counts.sum().item() == pytest.approx(100 * (1 - decay**t), rel=1e-5)


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_shifting_and_turning_features_and_codebook_shifts_and_turns_all_that_follows(scale: float, offset: float) -> None:
    """P37. Counts smoothed towards zero, as is usual, draw a code that was far from the origin there by 1 part in 10^4."""
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).Q
    plain, moved = make(decay=0.9).double(), make(decay=0.9).double()
    moved.codebook.copy_(scale * plain.codebook @ turn + offset)
    generator = torch.Generator().manual_seed(1)
    for t in range(40):
        rows = torch.randn(30, 3, generator=generator, dtype=torch.float64) * (1 if t % 7 == 0 else 0.1)
        assert torch.equal(step(plain, rows), step(moved, scale * rows @ turn + offset))
    found = (moved.codebook - offset) @ turn.T / scale
    torch.testing.assert_close(found, plain.codebook, rtol=0, atol=1e-11 * max(1.0, offset / scale))


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_decay_zero_is_a_lloyd_step_and_never_raises_the_error(offset: float) -> None:
    quantizer = make(decay=0.0)
    rows = torch.randn(300, 3)
    quantizer.codebook.add_(offset)
    errors = []
    for _ in range(8):
        out = quantizer(maps(rows + offset))
        errors.append(float(out.stats["quantization_error"]))
        quantizer.update(out.pending)
    assert all(later <= earlier * (1 + 1e-5) for earlier, later in pairwise(errors))
    assert errors[-1] < 0.7 * errors[0]


def test_decay_one_is_a_frozen_codebook() -> None:
    """Not a codebook of zeros: averages that take in nothing have nothing to divide (P19). Revival rests as well."""
    quantizer = make(decay=1.0, revive_after=1)
    quantizer.codebook[3] = 1e3
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    for _ in range(5):
        assert (step(quantizer, torch.randn(50, 3)) != 3).all()
    for name, value in quantizer.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_code_that_was_never_chosen_stays_where_it_is() -> None:
    """Averages that start at zero without correction throw it to the origin or to infinity."""
    quantizer = make()
    with torch.no_grad():
        quantizer.codebook[5] = 1e3
        quantizer.codebook[6] = -1e3
    before = quantizer.codebook.clone()
    for _ in range(200):
        assert not {5, 6} & set(step(quantizer, torch.randn(40, 3)).tolist())
    assert torch.equal(quantizer.codebook[5:7], before[5:7])


def test_a_code_that_is_no_longer_chosen_stays_where_it_is() -> None:
    quantizer = make(decay=0.5)
    quantizer.initialise(torch.cat([torch.randn(40, 3), torch.full((40, 3), 50.0)]))
    step(quantizer, torch.cat([torch.randn(40, 3), torch.full((40, 3), 50.0)]))
    far = int(quantizer.encode(torch.full((1, 3, 1), 50.0))[0])
    before = quantizer.codebook[far].clone()
    for _ in range(200):
        step(quantizer, torch.randn(40, 3))
    assert torch.equal(quantizer.codebook[far], before)
    assert quantizer.state_dict()["sums"].isfinite().all()


def test_losses_have_the_gradient_of_the_commitment_alone() -> None:
    quantizer = make(commitment=0.25)
    z = torch.randn(4, 3, 5, requires_grad=True)
    out = quantizer(z)
    assert set(out.losses) == {"commitment"}
    sum(out.losses.values()).backward()
    torch.testing.assert_close(z.grad, 0.25 * 2 * (z - out.vectors).detach() / z.numel())
    assert list(quantizer.parameters()) == []


def test_gradient_goes_straight_through() -> None:
    quantizer, upstream = make(), torch.randn(4, 3, 5)
    z = torch.randn(4, 3, 5, requires_grad=True)
    quantizer(z).vectors.backward(upstream)
    assert torch.equal(z.grad, upstream)


def test_initialised_codes_are_all_in_use_and_forget_what_was() -> None:
    """A third of the features are one and the same, as the background of a picture is."""
    quantizer = make(num_codes=64)
    rows = torch.randn(300, 3)
    rows[:100] = 0.5
    step(quantizer, rows)
    quantizer.initialise(rows)
    assert len(quantizer.encode(maps(rows))[0].unique()) == 64
    assert all((state == 0).all() for state in (quantizer.counts, quantizer.sums, quantizer.unused))


def test_pending_of_micro_batches_updates_as_one_batch_does() -> None:
    """P26, revival included."""
    whole, parts = make(decay=0.8, revive_after=2), make(decay=0.8, revive_after=2)
    for one in (whole, parts):
        one.codebook[6:] = 1e3
    for t in range(5):
        z = torch.randn(6, 3, 20, generator=torch.Generator().manual_seed(t))
        whole.update(whole(z).pending)
        split = [parts(part).pending for part in (z[:1], z[1:4], z[4:])]
        parts.update({name: sum(part[name] for part in split[1:]) + split[0][name] for name in split[0]})
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(value, parts.state_dict()[name], msg=name)


def test_the_order_of_positions_does_not_matter_to_the_state() -> None:
    """P29."""
    left, right = make(revive_after=2), make(revive_after=2)
    for t in range(5):
        rows = torch.randn(60, 3, generator=torch.Generator().manual_seed(t))
        order = torch.randperm(60, generator=torch.Generator().manual_seed(t))
        assert torch.equal(step(left, rows)[order], step(right, rows[order]))
    for name, value in left.state_dict().items():
        torch.testing.assert_close(value, right.state_dict()[name], msg=name)


class NoWaiting(TorchDispatchMode):
    """Fails at an operator whose result, or the shape of it, the host would have to wait for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket.__name__ not in ("_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique2")
        if func.overloadpacket.__name__ in ("index", "index_put", "index_put_", "_index_put_impl_"):
            assert all(index is None or index.dtype == torch.int64 for index in args[1])
        return func(*args, **(kwargs or {}))


def test_update_never_waits_for_the_device() -> None:
    """And works where only deterministic operators are allowed (P32)."""
    with NoWaiting(), pytest.raises(AssertionError):
        torch.ones(2)[torch.tensor([True, False])]
    quantizer = make(revive_after=1)
    quantizer.codebook[5] = 1e3
    pending = quantizer(torch.randn(2, 3, 9)).pending
    torch.use_deterministic_algorithms(True)
    try:
        with NoWaiting():
            quantizer.update(pending)
    finally:
        torch.use_deterministic_algorithms(False)
    assert quantizer.codebook.abs().max() < 100


def test_update_compiles_into_one_graph() -> None:
    eager, compiled = make(revive_after=2), make(revive_after=2)
    step_of = torch.compile(compiled.update, fullgraph=True, backend="aot_eager")
    for one in (eager, compiled):
        one.codebook[6] = 1e3
    for t in range(4):
        pending = eager(torch.randn(2, 3, 30, generator=torch.Generator().manual_seed(t))).pending
        eager.update(pending)
        step_of(pending)
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, msg=name)


@pytest.mark.parametrize(
    ("field", "value"), [("decay", 1.1), ("decay", -0.1), ("num_codes", 0), ("revive_after", 0), ("dim", 0)]
)
def test_values_out_of_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        structure({field: value}, EMAQuantizer.Config)
