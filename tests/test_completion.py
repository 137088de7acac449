"""Completion: what is kept is what was asked for, on every level alike, and the rest is drawn."""

import itertools

import pytest
import torch
from tiny_priors import PRIORS, build
from torch import Generator, Tensor

from dvgen.code_model import CodeModel
from dvgen.errors import ConfigError
from dvgen.evaluation.completion import BLANK, Region, given_codes, kept, kept_part, parse_region, spread
from dvgen.evaluation.sampling import Request, draw_codes
from dvgen.interfaces.codes import MASKED, Codes, Level
from dvgen.interfaces.context import ContextShape
from dvgen.interfaces.prior import AutoregressivePrior
from dvgen.interfaces.sampling import Sampling
from dvgen.registry import Registry

REGIONS = ["top:0.5", "bottom:0.25", "left:0.5", "right:0.5", "outside:0.5"]


def level(*grid: int, name: str = "codes", num_codes: int = 3) -> Level:
    return Level(name, grid, num_codes)


def drawn(mask: Tensor) -> str:
    """A mask as text: x where a code is kept, rows apart."""
    rows = mask.reshape(-1, mask.shape[-1])
    return " ".join("".join("x" if value else "." for value in row) for row in rows.tolist())


@pytest.mark.parametrize(
    ("grid", "region", "expected"),
    [
        ((4, 4), "top:0.5", "xxxx xxxx .... ...."),
        ((4, 4), "bottom:0.25", ".... .... .... xxxx"),
        ((4, 4), "left:0.75", "xxx. xxx. xxx. xxx."),
        ((4, 4), "right:.5", "..xx ..xx ..xx ..xx"),
        ((4, 4), "outside:0.5", "xxxx x..x x..x xxxx"),
        ((2, 6), "left:0.5", "xxx... xxx..."),
        ((3, 5), "top:0.5", "xxxxx xxxxx ....."),  # 1.5 rows
        ((3, 5), "bottom:0.4", "..... ..... xxxxx"),  # 1.2 rows
        ((3, 5), "left:0.5", "xxx.. xxx.. xxx.."),  # 2.5 columns
        ((3, 5), "right:0.49", "...xx ...xx ...xx"),
        ((3, 5), "outside:0.5", "x...x x...x xxxxx"),  # a centre of 2x3, one row nearer to the beginning
        ((3, 5), "outside:0.2", "xxxxx xx.xx xxxxx"),
        ((3, 5), "outside:0.8", "....x ....x xxxxx"),
        ((8,), "left:0.25", "xx......"),
        ((7,), "right:0.5", "...xxxx"),
        ((7,), "outside:0.5", "x....xx"),
        ((2,), "left:0.5", "x."),
    ],
)
def test_the_region_kept_is_the_one_that_was_asked_for(grid: tuple[int, ...], region: str, expected: str) -> None:
    """Shares are rounded to whole codes, halves upwards."""
    (mask,) = kept([level(*grid)], parse_region(region))
    assert mask.dtype == torch.bool
    assert drawn(mask) == expected


@pytest.mark.parametrize(
    ("grid", "region"),
    [((4, 4), "top:0.1"), ((4, 4), "top:0.9"), ((4, 4), "outside:0.1"), ((4, 4), "outside:0.9"), ((1, 4), "bottom:0.5"),
     ((1,), "left:0.5"), ((1, 1), "outside:0.5")],
)  # fmt: skip
def test_a_region_that_keeps_all_codes_or_none_is_refused(grid: tuple[int, ...], region: str) -> None:
    with pytest.raises(ConfigError, match=r"would keep (every|no) code of the coarsest grid") as error:
        kept([level(*grid)], parse_region(region))
    assert "x".join(map(str, grid)) in str(error.value)


@pytest.mark.parametrize("side", ["top", "bottom"])
def test_sound_has_no_top_and_no_bottom(side: str) -> None:
    with pytest.raises(ConfigError, match=f"sound has no {side}; expected left"):
        kept([level(8)], Region(side, 0.5))


WRONG = [
    "none",
    "",
    "top",
    "top:",
    "top:0",
    "top:1",
    "top:1.5",
    "top:-0.5",
    "top:nan",
    "top:half",
    "middle:0.5",
    "top:0.5:0.5",
    "top:²",
]


@pytest.mark.parametrize("text", WRONG)
def test_what_names_no_region_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a side and its share"):
        parse_region(text)


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize(
    "grids", [((2, 4), (4, 8)), ((3, 3), (7, 7)), ((3, 5), (6, 10), (12, 20)), ((2, 4), (2, 4)), ((4, 8), (2, 4))]
)
def test_a_finer_code_is_kept_if_its_coarse_cell_is(grids: tuple[tuple[int, int], ...], region: str) -> None:
    """Whatever the order of the levels, and where a grid is no multiple of the other."""
    masks = kept([level(*grid) for grid in grids], parse_region(region))
    coarse = min(masks, key=torch.numel)
    assert drawn(coarse) == drawn(kept([level(*coarse.shape)], parse_region(region))[0])
    for grid, mask in zip(grids, masks, strict=True):
        assert tuple(mask.shape) == grid
        for row, column in itertools.product(*map(range, grid)):
            cell = int(row / grid[0] * coarse.shape[0] + 1e-9), int(column / grid[1] * coarse.shape[1] + 1e-9)
            assert bool(mask[row, column]) == bool(coarse[cell])


@pytest.mark.parametrize("region", REGIONS)
def test_given_codes_are_the_tokenizers_where_kept_and_free_elsewhere(region: str) -> None:
    levels = [level(2, 4), level(4, 8)]
    masks = kept(levels, parse_region(region))
    codes = tuple(torch.randint(0, 3, (5, *one.grid), generator=Generator().manual_seed(0)) for one in levels)
    for code, mask, given in zip(codes, masks, given_codes(codes, masks), strict=True):
        assert given.dtype == torch.int64
        for i, place in itertools.product(range(5), itertools.product(*map(range, code.shape[1:]))):
            assert given[i][place] == (code[i][place] if mask[place] else MASKED)


@pytest.mark.parametrize("size", [(8, 16), (9, 13)])
def test_of_a_picture_those_pixels_are_kept_whose_coarse_code_is(size: tuple[int, int]) -> None:
    masks = kept([level(4, 8), level(2, 4)], parse_region("outside:0.5"))
    signals = torch.rand(3, 1, *size, generator=Generator().manual_seed(0)) * 0.5 + 0.25  # never BLANK
    shown = kept_part(signals, masks)
    pixels = spread(masks[1], size)
    assert (shown == signals)[:, 0].eq(pixels).all()
    assert (shown == BLANK)[:, 0].eq(~pixels).all()
    assert pixels.sum() not in (0, pixels.numel())


def product(registry: Registry, name: str) -> CodeModel:
    """Two levels of tiny priors in float64, the finer one conditioned on the coarser, with large weights."""
    levels = level(2, 2, name="top"), level(4, 4, name="bottom")
    cls = registry.load("prior", name)
    torch.manual_seed(0)
    shapes = [ContextShape(coarser=levels[:i]) for i in range(2)]
    model = CodeModel([cls(cls.tiny(), levels=(one,), context=s) for one, s in zip(levels, shapes, strict=True)]).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.4)
    return model.eval()


def request(n: int, *, batch: int = 7, given: Codes | None = None) -> Request:
    return Request(n=n, labels=None, sampling=Sampling(), seed=3, batch=batch, given=given)


def drawn_codes(model: CodeModel, wanted: Request) -> Codes:
    return draw_codes(model, wanted, lambda: None).codes


ORDERED = [name for name in PRIORS if isinstance(build(name, (2, 2), conditional=False), AutoregressivePrior)]


@pytest.mark.parametrize("region", ["bottom:0.5", "outside:0.5"])
@pytest.mark.parametrize("name", ORDERED)
def test_a_sample_completed_from_its_own_part_is_that_sample(registry: Registry, name: str, region: str) -> None:
    """In raster order; a prior of another order sees kept codes earlier than it drew them. Others it completes otherwise.

    Every place has a number of its own, given or drawn, so that the free ones are drawn as before.
    """
    model = product(registry, name)
    whole = drawn_codes(model, request(9))
    masks = kept(model.levels, parse_region(region))
    again = drawn_codes(model, request(9, given=given_codes(whole, masks)))
    assert all(torch.equal(one, other) for one, other in zip(whole, again, strict=True))
    others = tuple(code.flip(0) for code in whole)
    completed = drawn_codes(model, request(9, given=given_codes(others, masks)))
    assert any(not torch.equal(one, other) for one, other in zip(others, completed, strict=True))


@pytest.mark.parametrize("region", ["top:0.5", "right:0.5"])
@pytest.mark.parametrize("name", PRIORS)
def test_every_prior_keeps_what_is_given_and_no_batch_changes_a_completion(registry: Registry, name: str, region: str) -> None:
    model = product(registry, name)
    codes = tuple(torch.randint(0, 3, (5, *one.grid), generator=Generator().manual_seed(0)) for one in model.levels)
    masks = kept(model.levels, parse_region(region))
    together, apart = (drawn_codes(model, request(5, batch=n, given=given_codes(codes, masks))) for n in (5, 2))
    for code, mask, one, other in zip(codes, masks, together, apart, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one[:, mask], code[:, mask])
        assert int(one.min()) >= 0


@pytest.mark.parametrize("name", PRIORS)
def test_every_prior_draws_in_bfloat16(name: str) -> None:
    """Codes in range, decided by the generator, and nearly those of float64: few places differ by the rounding."""
    exact = CodeModel([build(name, (2, 2), conditional=False)])
    codes = drawn_codes(exact, request(64))[0]
    rounded = exact.to(torch.bfloat16)
    found, again = (drawn_codes(rounded, request(64, batch=n))[0] for n in (64, 64))
    assert torch.equal(found, again)
    assert 0 <= int(found.min()) <= int(found.max()) < 3
    assert (found == codes).double().mean() > 0.9
