"""The ladder of baselines: every model normalised, each level by itself, and a compressor beside them."""

import itertools
import lzma
import math

import numpy as np
import pytest
import torch
from test_counting import left_up, markov

from dvgen.errors import ShapeError
from dvgen.evaluation.baselines import FILTERS, LADDER, ladder, lzma_bits, unigram_samples
from dvgen.evaluation.counting import Unigram
from dvgen.interfaces.codes import Level


@pytest.mark.parametrize(("grid", "num_codes"), [((4,), 3), ((2, 2), 3), ((3, 2), 2), ((2, 3), 2)])
@pytest.mark.parametrize("name", LADDER)
def test_probabilities_of_all_maps_add_up_to_one(name: str, grid: tuple[int, ...], num_codes: int) -> None:
    """So nothing given to a code is the code itself or comes after it."""
    every = torch.tensor(list(itertools.product(range(num_codes), repeat=math.prod(grid)))).reshape(-1, *grid)
    found = ladder((Level("a", grid, num_codes),), (markov(4, grid, num_codes),), (every,))[name]
    assert np.exp(-found).sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("back", [1, 2, 3, 4])
def test_in_one_dimension_neighbours_are_the_four_codes_before(back: int) -> None:
    codes = np.random.default_rng(0).integers(0, 6, size=(3000, 12))
    for t in range(back, 12):
        codes[:, t] = codes[:, t - back]
    train, test = torch.from_numpy(codes[:2000]), torch.from_numpy(codes[2000:])
    found = ladder((Level("a", (12,), 6),), (train,), (test,))
    certain = back * math.log(6)
    assert found["four neighbours"].mean() == pytest.approx(certain, rel=0.1)
    assert (found["left"].mean() < 1.1 * certain) == (back == 1)
    assert (found["left+up"].mean() < 1.1 * certain) == (back <= 2)


def test_the_ladder_has_every_model_at_every_level_by_itself() -> None:
    levels = (Level("top", (2, 2), 3), Level("bottom", (4, 4), 5))
    train, test = ((markov(n, (2, 2), 3, n), markov(n, (4, 4), 5, n)) for n in (200, 30))
    found = ladder(levels, train, test)
    assert tuple(found) == LADDER
    assert LADDER == ("uniform", "unigram", "position unigram", "left", "left+up", "four neighbours")
    for name, nats in found.items():
        assert (nats.shape, nats.dtype) == ((2, 30), np.float64)
        for i, level in enumerate(levels):
            np.testing.assert_array_equal(ladder((level,), (train[i],), (test[i],))[name], nats[i : i + 1])
    np.testing.assert_allclose(found["uniform"], [[4 * math.log(3)] * 30, [16 * math.log(5)] * 30])
    np.testing.assert_array_equal(found["unigram"][1], Unigram.fit(train[1], 5).nats(test[1]))
    assert found["left"].sum() < 0.7 * found["unigram"].sum()  # what is told of the left neighbour is used


def test_a_large_split_is_counted_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dvgen.evaluation.baselines.MOST_CODES", 100)
    codes, level = markov(50, (4, 4), 5), Level("a", (4, 4), 5)
    some, test = ladder((level,), (codes,), (codes,)), ladder((level,), (codes[:6],), (codes,))
    for name in LADDER:
        np.testing.assert_array_equal(some[name], test[name])


def test_lzma_takes_the_entropy_of_independent_codes_and_little_for_what_repeats() -> None:
    """Independent codes of 256 cannot be compressed; one image again and again costs nearly nothing."""
    level = Level("a", (8, 8), 256)
    noise = torch.randint(256, (300, 8, 8), generator=torch.Generator().manual_seed(0))
    assert lzma_bits((level,), (noise,)) == pytest.approx(8 * 64, rel=0.01)
    assert lzma_bits((level,), (noise[:1].expand(300, 8, 8),)) < 15
    assert lzma_bits((level, level), (noise, noise)) == pytest.approx(2 * lzma_bits((level,), (noise,)))
    wide = Level("b", (8, 8), 2**16)
    assert lzma_bits((wide,), (noise * 257,)) < 8 * 64 * 1.2


def test_lzma_can_be_undone() -> None:
    """What is counted is a whole message: as long as one that Python's own decoder gives back."""
    codes = markov(100, (5,), 300)
    packed = codes.numpy().astype("<u2").tobytes()
    message = lzma.compress(packed, format=lzma.FORMAT_RAW, filters=FILTERS)
    assert lzma.decompress(message, format=lzma.FORMAT_RAW, filters=FILTERS) == packed
    assert lzma_bits((Level("a", (5,), 300),), (codes,)) == pytest.approx(8 * len(message) / 100)


def test_unigram_samples_have_the_shares_of_the_codes_and_no_memory_of_places() -> None:
    levels = (Level("top", (2,), 4), Level("bottom", (3, 3), 3))
    train = (torch.tensor([[0, 1], [0, 2]]).repeat(500, 1), torch.arange(3).expand(1000, 3, 3))
    samples = unigram_samples(levels, train, 2000, seed=5)
    assert [tuple(code.shape) for code in samples] == [(2000, 2), (2000, 3, 3)]
    top = samples[0].flatten().bincount(minlength=4) / 4000
    assert top.tolist() == pytest.approx([0.5, 0.25, 0.25, 0], abs=0.03)
    assert (samples[1][:, :, 0] == 0).double().mean() == pytest.approx(1 / 3, abs=0.03)
    again, other = unigram_samples(levels, train, 2000, seed=5), unigram_samples(levels, train, 2000, seed=6)
    assert all(torch.equal(a, b) for a, b in zip(samples, again, strict=True))
    assert not torch.equal(samples[0], other[0])


def test_codes_out_of_range_masked_or_of_another_kind_are_refused() -> None:
    good = torch.zeros(2, 3, dtype=torch.int64)
    for fit in (Unigram.fit, left_up):
        prior = fit(good, 2)
        for bad in (good + 2, good - 1):
            with pytest.raises(ShapeError, match=r"0\.\.1"):
                prior.nats(bad)
            with pytest.raises(ShapeError, match=r"0\.\.1"):
                fit(bad, 2)
        with pytest.raises(ShapeError, match="int64"):
            prior.nats(good.float())
    level = (Level("a", (3,), 2),)
    for bad in (good + 2, good - 1, good[:, :2]):
        with pytest.raises(ShapeError):
            ladder(level, (good,), (bad,))
        with pytest.raises(ShapeError):
            lzma_bits(level, (bad,))
        with pytest.raises(ShapeError):
            unigram_samples(level, (bad,), 1, 0)


@pytest.mark.parametrize("name", LADDER[1:])
def test_a_code_never_seen_is_unlikely_and_not_impossible(name: str) -> None:
    """Even when every count is large, so that nothing was seen once and the estimated discount would be 0."""
    train, test = torch.zeros(100, 4, dtype=torch.int64), torch.tensor([[0, 0, 0, 0], [0, 2, 0, 0]])
    ((one, other),) = ladder((Level("a", (4,), 3),), (train,), (test,))[name]
    assert np.isfinite(other)
    assert other > one + 3
