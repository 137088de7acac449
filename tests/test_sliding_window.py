"""Sliding windows: every code by its own window, and nothing else, whether all at once or one after the other.

The reference cuts a window for every position, hides what comes later, and asks the prior's teacher-forced logits.
"""

import weakref
from collections.abc import Callable
from typing import final

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from tiny_priors import CLASSES, PRIORS, build, contexts, every_code, generators, log_probability, repeated, some_codes
from torch import Generator, Tensor, nn

from dvgen.blocks.sliding_window import SlidingWindow
from dvgen.discovery import discover
from dvgen.errors import ConfigError, ShapeError
from dvgen.interfaces.codes import MASKED, Level
from dvgen.interfaces.context import Context, ContextShape
from dvgen.interfaces.prior import AutoregressivePrior
from dvgen.interfaces.sampling import Sampling, draw

Grid = tuple[int, ...]
NAMES = [name for name in PRIORS if issubclass(discover().registry.load("prior", name), AutoregressivePrior)]
GUIDED = Sampling(temperature=2.0, top_p=0.95, guidance=1.5)
CONDITIONAL: list[tuple[Grid, Grid, list[int]]] = [
    ((4, 4), (8, 8), [1]),  # twice, a coarser level at half the grid
    ((4, 4), (6, 10), [3]),  # a last offset that is no multiple of the stride
    ((2, 2), (4, 5), [1, 2]),  # the coarser level has half the rows and all columns
    ((6,), (14,), [3, 6]),
    ((1, 4), (3, 7), [2]),  # windows of one row
]
ALONE: list[tuple[Grid, Grid, list[int]]] = [
    ((3, 5), (5, 8), [1, 2]),
    ((4, 4), (4, 7), [1, 4]),  # one axis is larger
    ((4, 4), (5, 4), [1]),  # by one
    ((5,), (12,), [1, 2]),
]
CASES = [(True, *case) for case in CONDITIONAL] + [(False, *case) for case in ALONE]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """The name of a registered autoregressive prior."""
    return str(request.param)


def made(name: str, grid: Grid, *, conditional: bool, num_codes: int = 3) -> AutoregressivePrior:
    """A tiny prior of `tiny_priors`, which predicts code after code."""
    prior = build(name, grid, conditional=conditional, num_codes=num_codes)
    assert isinstance(prior, AutoregressivePrior)
    return prior


def offset_of(at: int, many: int, few: int, step: int) -> int:
    """Where the window of a place begins on one axis: of all multiples of `step` the one next to centred, within the grid."""
    centred = at - few // 2
    nearest = min(range(-many * step, many * step, step), key=lambda start: (abs(start - centred), -start))
    return min(max(nearest, 0), many - few)


def naive(
    prior: AutoregressivePrior, grid: Grid, stride: int, context: Context, choose: Callable[[int, list[Tensor]], Tensor]
) -> tuple[Tensor, Tensor]:
    """Codes (b, *grid), and the log-probability of each, window by window; choose: a code (b,) from a position and its logits,
    those with the labels and, where there are any, those without.
    """
    window = prior.level.grid
    ratios = [[many // few for many, few in zip(window, level.grid, strict=True)] for level in prior.context.coarser]
    steps = [stride] * len(grid)
    while any(step % ratio for each in ratios for step, ratio in zip(steps, each, strict=True)):
        steps = [step + any(step % each[a] for each in ratios) for a, step in enumerate(steps)]
    steps = [min(step, side) for step, side in zip(steps, window, strict=True)]
    noise = Generator().manual_seed(9)
    codes = torch.randint(0, prior.level.num_codes, (context.batch, *grid), generator=noise)  # what is to come is noise
    terms = torch.zeros(codes.shape, dtype=torch.float64)
    for position, place in enumerate(np.ndindex(*grid)):
        offset = [offset_of(*sides) for sides in zip(place, grid, window, steps, strict=True)]
        cut = (slice(None), *(slice(o, o + n) for o, n in zip(offset, window, strict=True)))
        coarser = []
        for code, level, ratio in zip(context.coarser, prior.context.coarser, ratios, strict=True):
            places = [slice(o // r, o // r + n) for o, r, n in zip(offset, ratio, level.grid, strict=True)]
            assert all(o % r == 0 for o, r in zip(offset, ratio, strict=True))
            coarser.append(code[(slice(None), *places)])
        seen = context._replace(coarser=tuple(coarser))
        local = (slice(None), *(at - o for at, o in zip(place, offset, strict=True)))
        with torch.no_grad():  # the same twice where there are no labels
            both = [
                prior.logits(codes[cut], one)[local] for one in (seen, seen.unconditional())[: 1 + (seen.labels is not None)]
            ]
        chosen = choose(position, both)
        codes[(slice(None), *place)] = chosen
        terms[(slice(None), *place)] = both[0].log_softmax(dim=-1).gather(1, chosen.unsqueeze(1)).squeeze(1)
    return codes, terms


@pytest.mark.parametrize(("conditional", "grid", "larger", "strides"), CASES, ids=str)
def test_codes_and_their_probabilities_are_those_of_a_window_for_every_position(
    name: str, conditional: bool, grid: Grid, larger: Grid, strides: list[int]
) -> None:
    """Labels, guidance, a coarser level; borders, odd sides and strides; the same codes from the same random numbers."""
    prior = made(name, grid, conditional=conditional)
    for stride in strides:
        wrapped = SlidingWindow(prior, larger, stride)
        context = contexts(wrapped, 3)
        uniforms = torch.stack([torch.rand(wrapped.level.length, generator=g, dtype=torch.float64) for g in generators(3)])

        def choose(position: int, logits: list[Tensor], uniforms: Tensor = uniforms) -> Tensor:
            labelled, free = logits[0], logits[-1]
            return draw(free + 1.5 * (labelled - free), uniforms[:, position], Sampling(temperature=2.0, top_p=0.95))

        codes, terms = naive(prior, larger, stride, context, choose)
        (drawn,) = wrapped.sample(context, sampling=GUIDED, generators=generators(3))
        assert torch.equal(drawn, codes)
        with torch.no_grad():
            (found,) = wrapped((codes,), context)
        torch.testing.assert_close(found, terms, rtol=0, atol=1e-10)
        assert len(codes.unique()) > 1


def test_the_window_of_stride_one_is_the_papers() -> None:
    """At a border it stays; otherwise half of it lies before the code. As the authors' sampling script moves it."""
    wrapped = SlidingWindow(Ledger((16, 16)), (40, 16), 1)
    starts = {run.start // 16: run.offset for run in wrapped._runs}
    for row, offset in starts.items():
        above = row if row <= 8 else 16 - (40 - row) if 40 - row < 8 else 8
        assert offset == (row - above, 0)


@pytest.mark.parametrize("grid", [(2, 2), (1, 2)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
def test_probabilities_of_all_larger_maps_sum_to_one_and_samples_follow_them(name: str, grid: Grid, stride: int) -> None:
    prior = (
        build("gpt", grid, conditional=False, num_codes=2)
        if grid == (1, 2)
        else made(name, grid, conditional=True, num_codes=2)
    )
    assert isinstance(prior, AutoregressivePrior)
    wrapped, count = SlidingWindow(prior, (2, 3), stride), 3000
    codes, context = every_code(wrapped.level), contexts(wrapped, 1)
    expected = log_probability(wrapped, codes, repeated(context, len(codes))).exp()
    assert float(expected.sum()) == pytest.approx(1, abs=1e-10)
    (samples,) = wrapped.sample(repeated(context, count), sampling=Sampling(), generators=generators(count))
    found = torch.bincount((samples.flatten(1) * 2 ** torch.arange(5, -1, -1)).sum(dim=1), minlength=64).numpy()
    numbers = expected.numpy() * count
    rare = numbers < 5
    bins = [np.append(values[~rare], values[rare].sum() if rare.any() else []) for values in (found, numbers)]
    assert len(bins[0]) > 10
    assert chisquare(bins[0], bins[1] * (count / bins[1].sum())).pvalue > 1e-6


@pytest.mark.parametrize("sampling", [Sampling(), GUIDED], ids=["plain", "guided"])
def test_the_trained_grid_is_sampled_as_the_prior_samples_it(name: str, sampling: Sampling) -> None:
    """Bit for bit, in single precision too, also when a beginning is given."""
    prior = made(name, (4, 4), conditional=True).float()
    wrapped, context = SlidingWindow(prior, (4, 4)), contexts(prior, 5)
    given = some_codes(prior, 5).flatten(1)
    given[:, 6:] = MASKED
    for known in (None, (given.unflatten(1, (4, 4)),)):
        samples = [
            model.sample(context, sampling=sampling, generators=generators(5), given=known)[0] for model in (prior, wrapped)
        ]
        assert torch.equal(*samples)
    with torch.no_grad():
        assert torch.equal(wrapped((samples[0],), context)[0], prior((samples[0],), context)[0])


@pytest.mark.parametrize("stride", [1, 3])
def test_given_codes_are_kept_and_completing_a_sample_repeats_it(name: str, stride: int) -> None:
    """Holes anywhere, and a beginning that passes by unseen; of codes that are not its own a completion keeps all."""
    wrapped = SlidingWindow(made(name, (4, 4), conditional=True), (6, 6), stride)
    context = contexts(wrapped, 4)
    (sample,) = wrapped.sample(context, sampling=GUIDED, generators=generators(4))
    free = torch.rand(4, 6, 6, generator=Generator().manual_seed(1)) < 0.5
    late = torch.arange(36).unflatten(0, (6, 6)).expand(4, 6, 6) >= 15
    for hidden in (free, late, free & late, torch.zeros_like(free)):
        part = sample.masked_fill(hidden, MASKED)
        (again,) = wrapped.sample(context, sampling=GUIDED, generators=generators(4), given=(part,))
        assert torch.equal(again, sample)
    other = some_codes(wrapped, 4, seed=5)
    (completed,) = wrapped.sample(context, sampling=GUIDED, generators=generators(4), given=(other.masked_fill(free, MASKED),))
    assert torch.equal(completed[~free], other[~free])
    assert completed.min() >= 0
    assert (completed[free] != sample[free]).any(), "given codes condition what follows"


def test_a_sample_and_its_probability_do_not_depend_on_their_batch(name: str) -> None:
    wrapped = SlidingWindow(made(name, (4, 4), conditional=True), (6, 6), 2)
    context = contexts(wrapped, 4)
    (together,) = wrapped.sample(context, sampling=Sampling(), generators=generators(4))
    with torch.no_grad():
        (terms,) = wrapped((together,), context)
    for i in range(4):
        assert context.labels is not None
        alone = Context(1, tuple(c[i : i + 1] for c in context.coarser), context.labels[i : i + 1])
        (sample,) = wrapped.sample(alone, sampling=Sampling(), generators=generators(1, first=i))
        assert torch.equal(sample[0], together[i])
        with torch.no_grad():
            torch.testing.assert_close(wrapped((sample,), alone)[0][0], terms[i], rtol=0, atol=1e-11)
    assert len(together.flatten(1).unique(dim=0)) > 1


def test_a_masked_code_costs_nothing_and_is_shown_as_code_0(name: str) -> None:
    wrapped = SlidingWindow(made(name, (2, 2), conditional=True), (4, 5), 1)
    codes, context = some_codes(wrapped, 3), contexts(wrapped, 3)
    masked = torch.rand(3, 4, 5, generator=Generator().manual_seed(1)) < 0.4
    with torch.no_grad():
        (terms,) = wrapped((codes.masked_fill(masked, MASKED),), context)
        (shown,) = wrapped((codes.masked_fill(masked, 0),), context)
    assert (terms[masked] == 0).all()
    torch.testing.assert_close(terms[~masked], shown[~masked], rtol=0, atol=1e-11)


def test_samples_are_drawn_without_dropout_and_the_flags_stay(name: str) -> None:
    prior = made(name, (2, 2), conditional=True)
    wrapped = SlidingWindow(prior, (4, 3))
    context = contexts(wrapped, 4)
    (expected,) = wrapped.sample(context, sampling=Sampling(), generators=generators(4))
    wrapped.train()
    (sample,) = wrapped.sample(context, sampling=Sampling(), generators=generators(4))
    assert torch.equal(sample, expected)
    assert all(module.training for module in wrapped.modules())


class Passed:
    """A state that counts what passes it."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.skips: list[int] = []


@final
class Ledger(AutoregressivePrior):
    """Draws evenly, and keeps account of every state it was asked for."""

    def __init__(self, grid: Grid, coarser: tuple[Level, ...] = ()) -> None:
        super().__init__(levels=(Level("codes", grid, 2),), context=ContextShape(coarser))
        self.idle = nn.Parameter(torch.zeros(2))
        self.totals: list[tuple[int, int, int]] = []
        self.alive: weakref.WeakSet[Passed] = weakref.WeakSet()
        self.most = 0

    def logits(self, codes: Tensor, context: Context) -> Tensor:
        return self.idle.expand(*codes.shape, 2)

    def start(self, context: Context) -> Passed:
        state = Passed()
        weakref.finalize(
            state, lambda steps, skips: self.totals.append((len(steps), len(skips), sum(skips))), state.steps, state.skips
        )
        self.alive.add(state)
        self.most = max(self.most, len(self.alive))
        return state

    def step(self, state: Passed, previous: Tensor | None) -> Tensor:
        state.steps.append(1)
        return self.idle.unsqueeze(0)

    def skip(self, state: Passed, previous: Tensor | None, codes: Tensor) -> None:
        state.skips.append(codes.shape[1])


@pytest.mark.parametrize(("stride", "figure"), [(1, 136), (2, None), (4, 8.6), (8, 1.9)])
def test_sampling_costs_what_the_docstring_says(stride: int, figure: float | None) -> None:
    """One step a code; within the borders s calls of `skip` a window of s x s codes; the states of one row of windows."""
    prior, n = Ledger((16, 16)), 16
    wrapped = SlidingWindow(prior, (48, 40), stride)
    wrapped.sample(Context(1), sampling=Sampling(), generators=generators(1))
    assert sum(steps for steps, _, _ in prior.totals) == 48 * 40
    skipped = (n + 1) * (n - stride) // 2 + (stride - 1) * (n - stride) if stride > 1 else 136
    inner = [cost for cost in prior.totals if cost == (stride**2, stride, skipped)]
    across = [-(-(side - n + 1) // stride) for side in (48, 40)]  # offsets 0, s, ..., side - n
    assert len(prior.totals) == across[0] * across[1]
    assert len(inner) == (across[0] - 2) * (across[1] - 2)
    assert figure is None or skipped / stride**2 == pytest.approx(figure, abs=0.05)
    assert prior.most <= across[1]


def test_a_grid_of_three_axes_is_covered_too() -> None:
    """Every position once; a window is begun once, kept while it is needed, and no longer."""
    prior = Ledger((2, 3, 4), (Level("coarser", (1, 3, 2), 2),))
    wrapped = SlidingWindow(prior, (4, 4, 8), 1)
    context = contexts(wrapped, 1)
    wrapped.sample(context, sampling=Sampling(), generators=generators(1))
    assert sum(steps for steps, _, _ in prior.totals) == 4 * 4 * 8
    assert len(prior.totals) == 2 * 2 * 3
    assert prior.most <= 2 * 3
    with torch.no_grad():
        (terms,) = wrapped((some_codes(wrapped, 1),), context)
    torch.testing.assert_close(terms, torch.full((1, 4, 4, 8), -np.log(2), dtype=torch.float32))


def test_the_default_stride_is_a_quarter_of_the_side_that_slides() -> None:
    assert SlidingWindow(Ledger((16, 32)), (32, 32)).stride == 4
    assert SlidingWindow(Ledger((16, 32)), (16, 64)).stride == 8
    assert SlidingWindow(Ledger((3,)), (5,)).stride == 1


def test_levels_and_context_are_those_of_the_larger_grid() -> None:
    prior = made("gpt", (4, 4), conditional=True)
    wrapped = SlidingWindow(prior, (8, 6))
    assert wrapped.levels == (Level("level", (8, 6), 3),)
    assert wrapped.context == ContextShape((Level("coarser", (4, 3), 4),), CLASSES)
    assert wrapped.exact
    context = contexts(wrapped, 2)
    for wrong in (contexts(prior, 2), context._replace(labels=None), contexts(wrapped, 3)):
        with pytest.raises(ShapeError):
            wrapped((some_codes(wrapped, 2),), wrong)
    with pytest.raises(ShapeError):
        wrapped.sample(contexts(prior, 2), sampling=Sampling(), generators=generators(2))
    with pytest.raises(ShapeError):
        wrapped.sample(contexts(SlidingWindow(prior, (10, 8)), 2), sampling=Sampling(), generators=generators(2))
    with pytest.raises(ShapeError):
        wrapped((some_codes(prior, 2),), context)
    with pytest.raises(ShapeError, match="expected 2, got 1"):
        wrapped.sample(context, sampling=Sampling(), generators=generators(1))


@pytest.mark.parametrize(
    ("prior", "grid", "stride", "message"),
    [
        (Ledger((4, 4)), (3, 8), 1, "none shorter than the window's$"),
        (Ledger((4, 4)), (8,), 1, "expected 2 sides"),
        (Ledger((4, 4)), (8, 8), 0, "at least 1"),
        (Ledger((4, 4), (Level("top", (2, 2), 2),)), (8, 7), 1, r"multiples of \(2, 2\)"),
        (Ledger((4, 4), (Level("top", (3, 2), 2),)), (8, 8), 1, "coarser level 'top'"),
        (Ledger((4, 4), (Level("top", (4,), 2),)), (8, 8), 1, "coarser level 'top'"),
        (Ledger((4, 4), (Level("top", (8, 8), 2),)), (8, 8), 1, "coarser level 'top'"),
    ],
    ids=["shorter", "axes", "no stride", "odd", "uneven", "a row", "finer"],
)
def test_grids_that_windows_cannot_fill_are_refused(prior: Ledger, grid: Grid, stride: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        SlidingWindow(prior, grid, stride)
    assert "'codes'" in str(raised.value)
