"""Revival: where codes that nobody uses go, and that nothing else moves."""

import pytest
import torch
from torch import Tensor

from dvgen_ema.quantizer import EMAQuantizer
from dvgen_ema.revival import MOST, revive

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


def test_codes_used_in_a_step_are_not_revived_in_it() -> None:
    """And a revived code is not dead in the next update, even one that it is not chosen in (P23)."""
    quantizer = make(num_codes=32, revive_after=2)
    quantizer.codebook[20:] = 1e3
    generator = torch.Generator().manual_seed(2)
    revivals = 0
    for _ in range(8):
        before, unused = quantizer.codebook.clone(), quantizer.unused.clone()
        used = torch.zeros(32, dtype=torch.bool)
        out = quantizer(maps(torch.randn(100, 3, generator=generator)))
        used[out.codes[0].flatten()] = True
        quantizer.update(out.pending)
        revived = (quantizer.codebook != before).any(dim=1) & ~used
        assert (unused[revived] >= 1).all()
        assert (quantizer.unused[revived] == 0).all()
        assert (quantizer.unused[used] == 0).all()
        still = ~used & ~revived
        assert torch.equal(quantizer.unused[still], unused[still] + 1)
        assert len(quantizer.codebook[revived].unique(dim=0)) == int(revived.sum())
        revivals += int(revived.sum())
    assert revivals >= 12


def test_the_step_after_a_revival_moves_the_code_only_towards_its_own_features() -> None:
    """Its history is worth half of its parent's features, so half of an equal batch moves it half-way (P23)."""
    quantizer = make(num_codes=2, dim=1, decay=0.9, revive_after=1)
    quantizer.codebook.copy_(torch.tensor([[0.0], [1e3]]))
    rows = torch.linspace(-1, 1, 20).unsqueeze(1)
    step(quantizer, rows)
    place = float(quantizer.codebook[1])
    assert abs(place) == pytest.approx(0.1 * float(rows.square().mean().sqrt()), rel=1e-5)
    codes = step(quantizer, rows)
    assert 9 <= int((codes == 1).sum()) <= 11
    count, mean = int((codes == 1).sum()), float(rows[codes == 1].mean())
    expected = (0.9 * 0.1 * 10 * place + 0.1 * count * mean) / (0.9 * 0.1 * 10 + 0.1 * count)
    assert float(quantizer.codebook[1]) == pytest.approx(expected, rel=1e-5)


def test_a_cell_smaller_than_rounding_is_not_split() -> None:
    """Its child would stand on the parent, take or get all features, and leave one of the two dead for good."""
    quantizer = make(num_codes=2, dim=3, revive_after=1)
    quantizer.codebook.copy_(torch.tensor([[1e4] * 3, [-1e4] * 3]))
    step(quantizer, 1e4 + 1e-3 * torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]).repeat(50, 1))
    assert (quantizer.codebook[1] == -1e4).all()


def test_more_dead_codes_than_one_update_revives_come_in_the_next() -> None:
    """The work of an update is bounded; every revived code has a place of its own."""
    quantizer = make(num_codes=4 * MOST, dim=4, revive_after=1)
    quantizer.codebook[2 * MOST :] = 1e3
    rows = torch.randn(20000, 4)
    quantizer.codebook[: 2 * MOST] = rows[: 2 * MOST]
    step(quantizer, rows)
    revived = quantizer.codebook[2 * MOST :, 0] < 100
    assert revived.nonzero().flatten().tolist() == list(range(MOST))
    step(quantizer, rows)
    alive = quantizer.codebook[quantizer.codebook[:, 0] < 100]
    assert len(alive) > 3.5 * MOST
    assert len(alive.unique(dim=0)) == len(alive)


def test_revived_codes_are_distinct_and_split_the_largest_errors() -> None:
    codebook = torch.randn(6, 5)
    counts = torch.tensor([9.0, 0.0, 0.0, 5.0, 1.0, 4.0])
    errors = torch.tensor([1.0, 0.0, 0.0, 8.0, 9.0, 2.0])
    revival = revive(codebook, counts, errors, counts == 0)
    assert revival.revived.tolist() == [True, True, False, False, False, False]
    assert sorted(revival.codes.tolist()) == list(range(6))
    assert revival.codes[:2].tolist() == [1, 2]
    assert revival.parents[:2].tolist() == [3, 5]
    distance = (revival.places - codebook[revival.parents]).norm(dim=1)[:2]
    torch.testing.assert_close(distance, 0.1 * torch.tensor([8 / 5, 2 / 4]).sqrt())


def test_nothing_to_split_revives_nothing() -> None:
    codebook, dead = torch.randn(3, 2), torch.tensor([False, True, True])
    assert not revive(codebook, torch.tensor([9.0, 0.0, 0.0]), torch.zeros(3), dead).revived.any()
    assert revive(codebook, torch.tensor([9.0, 0.0, 0.0]), torch.tensor([1.0, 0.0, 0.0]), dead).revived.sum() == 1
