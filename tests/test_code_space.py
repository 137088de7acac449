"""Codes of one distribution are told from codes of another, with divergences that are the definition."""

import itertools
import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from dvgen.errors import ShapeError
from dvgen.evaluation import two_sample
from dvgen.evaluation.code_space import code_measurements, divergences, jensen_shannon
from dvgen.evaluation.measurement import Measurement
from dvgen.evaluation.two_sample import two_sample_test
from dvgen.interfaces.codes import Level

ABOUT = {"temperature": "1.0"}


def maps(n: int, *grid: int, num_codes: int = 4, seed: int = 0, stay: float = 0.0) -> Tensor:
    """Uniform codes; along the last axis each repeats its left neighbour with probability `stay`."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(num_codes, (n, *grid), generator=generator)
    for i in range(1, grid[-1]):
        repeats = torch.rand(codes[..., i].shape, generator=generator) < stay
        codes[..., i] = torch.where(repeats, codes[..., i - 1], codes[..., i])
    return codes


def divergence(one: list[tuple[int, ...]], other: list[tuple[int, ...]]) -> float:
    """Mean of the two Kullback-Leibler divergences to the mixture, from dictionaries."""
    p, q = ({key: count / len(rows) for key, count in Counter(rows).items()} for rows in (one, other))
    mixture = {key: (p.get(key, 0) + q.get(key, 0)) / 2 for key in p.keys() | q.keys()}
    return sum(sum(value * math.log(value / mixture[key]) for key, value in side.items()) for side in (p, q)) / 2


def squares(codes: Tensor) -> list[tuple[int, ...]]:
    h, w = codes.shape[1:]
    table = codes.tolist()
    places = itertools.product(range(len(table)), range(h - 1), range(w - 1))
    return [(table[n][i][j], table[n][i][j + 1], table[n][i + 1][j], table[n][i + 1][j + 1]) for n, i, j in places]


def test_the_divergence_of_known_histograms() -> None:
    """Apart: ln 2. Equal, at any sizes: 0. (1/2, 1/2) against (1, 0): by the mixture (3/4, 1/4)."""
    assert jensen_shannon(torch.tensor([3, 0]), torch.tensor([0, 9])) == pytest.approx(math.log(2), abs=1e-12)
    assert jensen_shannon(torch.tensor([1, 3]), torch.tensor([5, 15])) == 0
    expected = (0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25) + math.log(1 / 0.75)) / 2
    assert jensen_shannon(torch.tensor([2, 2]), torch.tensor([7, 0])) == pytest.approx(expected, abs=1e-12)


def test_patches_are_counted_as_by_hand() -> None:
    one, other = maps(5, 3, 4, seed=1), maps(6, 3, 4, seed=2, stay=0.6)
    found = divergences(one, other, 4)

    def pairs(codes: Tensor, axis: int) -> list[tuple[int, ...]]:
        size = codes.shape[axis]
        near, far = codes.narrow(axis, 0, size - 1).flatten(), codes.narrow(axis, 1, size - 1).flatten()
        return list(zip(near.tolist(), far.tolist(), strict=True))

    single = divergence([(c,) for c in one.flatten().tolist()], [(c,) for c in other.flatten().tolist()])
    both = [divergence(pairs(one, axis), pairs(other, axis)) for axis in (1, 2)]
    assert found["js_1x1"] == pytest.approx(single, abs=1e-12)
    assert found["js_pairs"] == pytest.approx(sum(both) / 2, abs=1e-12)
    assert found["js_2x2"] == pytest.approx(divergence(squares(one), squares(other)), abs=1e-12)


def test_codebooks_too_wide_for_one_number_a_patch_are_counted_all_the_same() -> None:
    """(2^18)^4 = 2^72 patches: only their names are renumbered, so the value is that of the same maps with few codes."""
    one, other = maps(5, 3, 4, seed=1), maps(6, 3, 4, seed=2, stay=0.6)
    wide = torch.tensor([0, 2**17, 2**18 - 2, 2**18 - 1])
    assert divergences(wide[one], wide[other], 2**18) == divergences(one, other, 4)


def test_patches_stand_where_the_grid_has_them() -> None:
    names = {grid: set(divergences(maps(3, *grid), maps(3, *grid, seed=1), 4)) for grid in ((1,), (7,), (1, 1), (1, 5), (2, 2))}
    assert names == {
        (1,): {"js_1x1"},
        (7,): {"js_1x1", "js_pairs"},
        (1, 1): {"js_1x1"},
        (1, 5): {"js_1x1", "js_pairs"},
        (2, 2): {"js_1x1", "js_pairs", "js_2x2"},
    }


def test_pairs_see_what_single_codes_do_not() -> None:
    """Codes with a memory have the same histogram as codes without."""
    found = divergences(maps(300, 4, 6, stay=0.5), maps(300, 4, 6, seed=1), 4)
    assert found["js_1x1"] < 0.001
    assert found["js_pairs"] > 0.02
    assert found["js_2x2"] > found["js_pairs"]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of the training: enough for what is tested."""
    monkeypatch.setattr(two_sample, "STEPS", 100)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("grid", [(4, 4), (16,)])
def test_a_classifier_tells_two_distributions_and_not_one(grid: tuple[int, ...]) -> None:
    level = Level("code", grid, 4)
    same = two_sample_test(level, maps(240, *grid, stay=0.5), maps(240, *grid, seed=1, stay=0.5), lambda: None)
    other = two_sample_test(level, maps(240, *grid, stay=0.7), maps(240, *grid, seed=1), lambda: None)
    assert same.n == other.n == 240
    assert 0.4 < same.right / same.n < 0.6
    assert other.right / other.n > 0.8


@pytest.mark.usefixtures("short")
def test_the_test_is_a_function_of_the_maps_and_judges_maps_that_it_was_not_trained_on() -> None:
    """Of the longer set the first are used; global random numbers are left alone."""
    level = Level("code", (3,), 50)
    a, b = maps(60, 3, num_codes=50), maps(80, 3, num_codes=50, seed=1)
    state = torch.get_rng_state()
    first = two_sample_test(level, a, b, lambda: None)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(1)
    assert two_sample_test(level, a, b[:60], lambda: None) == first
    # 125 000 maps are possible: those of the first half are told by heart, those of the second not
    assert first.n == 60
    assert 0.3 < first.right / first.n < 0.7


def measured(samples: tuple[Tensor, ...], held_out: tuple[Tensor, ...], pauses: list[int]) -> dict[str, Measurement]:
    levels = [Level("top", (2, 2), 4), Level("bottom", (6,), 4)]
    return code_measurements(levels, samples, held_out, "hash", ABOUT, lambda: pauses.append(1))


@pytest.mark.usefixtures("short")
@pytest.mark.usefixtures("short")
def test_a_large_codebook_has_a_row_for_each_code_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """2^20 codes tell what the same maps in few codes tell; a code that no training map holds is one of a kind."""
    seen: list[int] = []

    class Watched(two_sample.Critic):
        def __init__(self, level: Level) -> None:
            seen.append(level.num_codes)
            super().__init__(level)

    monkeypatch.setattr(two_sample, "Critic", Watched)
    wide = torch.tensor([3, 2**17, 2**19, 2**20 - 1])
    one, other = maps(40, 4, 4, seed=1), maps(40, 4, 4, seed=2, stay=0.9)
    large, small = Level("a", (4, 4), 2**20), Level("a", (4, 4), 5)
    found = two_sample.two_sample_test(large, wide[one], wide[other], lambda: None)
    assert seen == [5]
    assert two_sample.recipe(large) != two_sample.recipe(small) == two_sample.CRITIC
    assert found == two_sample.two_sample_test(small, one, other, lambda: None)
    unseen = wide[other].clone()
    unseen[20:, 0, 0] = 12
    two_sample.two_sample_test(large, wide[one], unseen, lambda: None)
    assert seen == [5, 5, 5]


def test_every_level_has_its_measurements_with_interval_and_key() -> None:
    pauses: list[int] = []
    samples, held_out = (tuple(maps(40, *grid, seed=seed) for grid in ((2, 2), (6,))) for seed in (0, 1))
    found = measured(samples, held_out, pauses)
    assert set(found) == {
        *(f"{name}/top" for name in ("js_1x1", "js_pairs", "js_2x2", "two_sample")),
        *(f"{name}/bottom" for name in ("js_1x1", "js_pairs", "two_sample")),
    }
    assert len(pauses) >= 200
    assert len({one.key for one in found.values()}) == len(found)
    test = found["two_sample/top"]
    assert test.interval is not None
    assert test.interval[0] < test.value < test.interval[1]
    assert test.n == 40
    assert found["js_1x1/top"].key.unit == "nats"
    assert ("sampler temperature", "1.0") in found["js_1x1/top"].key.protocol
    few = measured(tuple(code[:3] for code in samples), held_out, [])
    assert not any(name.startswith("two_sample") for name in few)


def test_codes_of_other_levels_are_refused() -> None:
    good = (maps(4, 2, 2), maps(4, 6))
    with pytest.raises(ShapeError, match="'bottom'"):
        measured(good, (good[0], maps(4, 5)), [])
