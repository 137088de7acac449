"""The codebook by moving averages: the closed form, codes that are not used, revival."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from dvgen.config import structure
from dvgen.errors import ConfigError
from dvgen_ema.quantizer import EMAQuantizer
from dvgen_ema.revival import revive

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
def test_codebook_is_the_debiased_average_in_closed_form(decay: float) -> None:
    """e = sum_s decay^(t-s) m_s / smoothed sum_s decay^(t-s) n_s, in float64, for codes that were chosen last."""
    quantizer = make(decay=decay)
    epsilon, num_codes = quantizer.config.epsilon, 8
    counts, sums = torch.zeros(num_codes, dtype=torch.float64), torch.zeros(num_codes, 3, dtype=torch.float64)
    seen = 0.0
    for _ in range(6):
        rows = torch.randn(100, 3)
        codes = step(quantizer, rows)
        one_hot = torch.nn.functional.one_hot(codes, num_codes).double()
        counts = decay * counts + (1 - decay) * one_hot.sum(dim=0)
        sums = decay * sums + (1 - decay) * one_hot.T @ rows.double()
        seen = decay * seen + (1 - decay)
        average, total = counts / seen, counts.sum() / seen
        smoothed = (average + epsilon) / (total + num_codes * epsilon) * total
        chosen = one_hot.sum(dim=0) > 0
        expected = (sums / seen / smoothed.unsqueeze(1))[chosen]
        torch.testing.assert_close(quantizer.codebook[chosen].double(), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close((quantizer.counts / quantizer.weight).sum().item(), 100.0, rtol=1e-5, atol=0)


def test_decay_zero_is_a_lloyd_step_and_never_raises_the_error() -> None:
    quantizer = make(decay=0.0)
    rows = torch.randn(300, 3)
    errors = []
    for _ in range(8):
        out = quantizer(maps(rows))
        errors.append(float(out.stats["quantization_error"]))
        quantizer.update(out.pending)
    assert all(later <= earlier + 1e-6 for earlier, later in pairwise(errors))
    assert errors[-1] < 0.7 * errors[0]


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


def test_initialised_codes_are_features_and_all_in_use() -> None:
    """A third of the features are one and the same, as the background of a picture is."""
    quantizer = make(num_codes=64)
    rows = torch.randn(300, 3)
    rows[:100] = 0.5
    step(quantizer, rows)
    quantizer.initialise(rows)
    assert all((rows == code).all(dim=1).any() for code in quantizer.codebook)
    assert len(quantizer.encode(maps(rows))[0].unique()) == 64
    assert all((state == 0).all() for state in (quantizer.counts, quantizer.sums, quantizer.weight, quantizer.unused))


def test_codes_collapsed_on_one_spot_come_back_into_use() -> None:
    """Hundreds of dead codes far away, one code for everything: revival spreads it again."""
    quantizer = make(num_codes=64, dim=4, revive_after=5)
    with torch.no_grad():
        quantizer.codebook.fill_(1e4)
        quantizer.codebook[0] = 0
    generator = torch.Generator().manual_seed(1)
    for _ in range(150):
        step(quantizer, torch.randn(1000, 4, generator=generator))
    assert len(quantizer.encode(maps(torch.randn(4000, 4, generator=generator)))[0].unique()) >= 60


def test_revival_resets_counts_and_sums_and_leaves_all_other_codes_alone() -> None:
    quantizer, plain = make(revive_after=3), make(revive_after=NEVER)
    for one in (quantizer, plain):
        with torch.no_grad():
            one.codebook[2] = 1e3
            one.codebook[7] = -1e3
    generator = torch.Generator().manual_seed(2)
    for number in range(1, 4):
        rows = torch.randn(200, 3, generator=generator)
        for one in (quantizer, plain):
            step(one, rows)
        moved = (quantizer.codebook != plain.codebook).any(dim=1)
        assert moved.nonzero().flatten().tolist() == ([2, 7] if number == 3 else [])
    others = [0, 1, 3, 4, 5, 6]
    for name in ("counts", "sums", "unused"):
        assert torch.equal(getattr(quantizer, name)[others], getattr(plain, name)[others])
    for code in (2, 7):
        assert quantizer.counts[code] > 0
        torch.testing.assert_close(quantizer.sums[code] / quantizer.counts[code], quantizer.codebook[code])
    used = step(quantizer, torch.randn(200, 3, generator=generator))
    assert {2, 7} <= set(used.tolist())
    assert quantizer.codebook.abs().max() < 10


def test_revival_is_a_function_of_state_and_pending_alone() -> None:
    """So every rank, given the same sums, makes the same codebook; the random state is not touched."""
    states = []
    for seed in (1, 2):
        quantizer = make(num_codes=32, revive_after=2)
        torch.manual_seed(seed)
        random = torch.get_rng_state()
        generator = torch.Generator().manual_seed(3)
        for _ in range(6):
            step(quantizer, torch.randn(50, 3, generator=generator))
        assert torch.equal(random, torch.get_rng_state())
        states.append(quantizer.codebook.clone())
    assert torch.equal(*states)


def test_revived_codes_are_distinct_and_split_the_largest_errors() -> None:
    codebook = torch.randn(6, 5)
    counts = torch.tensor([9.0, 0.0, 0.0, 5.0, 1.0, 4.0])
    errors = torch.tensor([1.0, 0.0, 0.0, 8.0, 9.0, 2.0])
    dead = counts == 0
    revival = revive(codebook, counts, errors, dead)
    assert torch.equal(revival.revived, dead)
    assert revival.parents[dead].tolist() == [3, 5]
    distance = (revival.places - codebook[revival.parents]).norm(dim=1)[dead]
    torch.testing.assert_close(distance, 0.1 * torch.tensor([8 / 5, 2 / 4]).sqrt())


def test_nothing_to_split_revives_nothing() -> None:
    codebook, dead = torch.randn(3, 2), torch.tensor([False, True, True])
    assert not revive(codebook, torch.tensor([9.0, 0.0, 0.0]), torch.zeros(3), dead).revived.any()
    assert revive(codebook, torch.tensor([9.0, 0.0, 0.0]), torch.tensor([1.0, 0.0, 0.0]), dead).revived.sum() == 1


@pytest.mark.parametrize(("field", "value"), [("decay", 1.0), ("decay", -0.1), ("num_codes", 0), ("epsilon", 0.0), ("dim", 0)])
def test_values_out_of_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        structure({field: value}, EMAQuantizer.Config)
