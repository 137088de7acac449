"""Sliding windows: codes of a grid larger than the one that a prior was trained on.

Shapes: b samples, p positions of the larger grid, w of a window, both in raster order.
"""

import math
from collections.abc import Sequence
from itertools import groupby, product
from typing import final

import attrs
import torch
import torch.nn.functional as F
from attrs import define, frozen
from torch import Generator, Tensor

from dvgen.blocks.conditioning import check_context
from dvgen.errors import ConfigError
from dvgen.interfaces.codes import Codes, Level, check_codes
from dvgen.interfaces.context import Context, ContextShape
from dvgen.interfaces.prior import AutoregressivePrior, Prior, State
from dvgen.interfaces.sampling import Drawing, Sampling

Place = tuple[int, ...]
"""A place of a grid, or the first place of a window in the larger grid: one number an axis."""


@frozen
class Run:
    """Positions start..stop-1 of the larger grid, in one of its rows, that share a window.

    offset: where the window begins. place: the position within the window of the first of them.
    """

    offset: Place
    start: int
    stop: int
    place: int

    def after(self, count: int) -> "Run":
        """What is left of it behind the first `count` positions of the larger grid; perhaps nothing, where stop <= start."""
        gone = max(0, count - self.start)
        return attrs.evolve(self, start=self.start + gone, place=self.place + gone)


@define
class _Window:
    """A window under way: a state of the prior for each context, and how many of its positions they have passed."""

    states: list[State]
    passed: int = 0


@final
class SlidingWindow(Prior):
    """A trained prior over a larger grid: every code is predicted in a window of the trained grid's size.

    The window is as near to centred on the code as the borders and the stride allow (Esser et al., 2021, section 3.2): on each
    axis it begins at the multiple of the stride next to centred, kept within the grid. It shows the prior all codes of the
    window before that one, which raster order of the window and of the larger grid tell alike, and of every coarser level the
    part that lies under it. Offsets are therefore multiples of the ratios between the grids, and so is the stride of each
    axis: `stride` rounded up, at most the window's side. `forward` is the log-probability under the same rule, exact where
    the prior's own is.

    stride: 1 is the paper's rule. Larger ones are faster, and set a code up to stride / 2 away from the centre. Every code
    costs one `step`. The others that its window shows pass by `skip`, once a window, for its state goes on from one row to the
    next: far from the borders a window of n x n serves s x s codes at stride s, with s calls of `skip` for (n + 1) (n - s) / 2
    + (s - 1) (n - s) positions (n and s even). Of 16x16 that is 136 positions skipped a code at stride 1, 8.6 at 4 and 1.9 at
    8, of which a prior that skips in one pass feels little. Default: a quarter of the window's shortest side where the grid is
    larger, at least 1. In memory are the states of one row of windows (of a grid of three axes: of one slice).
    """

    def __init__(self, prior: AutoregressivePrior, grid: tuple[int, ...], stride: int | None = None) -> None:
        """grid: at least the trained one on each axis, where the coarser levels must have whole places under it.

        Raises ConfigError for another grid, a stride below 1, or coarser levels whose grids do not divide the trained one.
        """
        super().__init__()
        self.prior = prior
        self.exact = prior.exact
        ratios = _ratios(prior)
        steps = tuple(math.lcm(*sides) for sides in zip(*ratios, (1,) * len(prior.level.grid), strict=True))
        _check_grid(prior.level, grid, steps)
        self.level = attrs.evolve(prior.level, grid=grid)
        self.levels = (self.level,)
        coarser = tuple(
            attrs.evolve(level, grid=_divided(grid, ratio)) for level, ratio in zip(prior.context.coarser, ratios, strict=True)
        )
        self.context = ContextShape(coarser, prior.context.num_classes)
        self.stride = _stride(prior.level, grid, stride)
        self._ratios = ratios
        strides = (-(-self.stride // step) * step for step in steps)
        self._runs = _runs(grid, prior.level.grid, tuple(map(min, strides, prior.level.grid)))
        self._ends = {run.offset: run.stop for run in self._runs}

    def forward(self, codes: Codes, context: Context) -> tuple[Tensor, ...]:
        """Every window passes through the prior once; at a time as many as have together the places of the larger grid."""
        (code,) = codes
        check_codes(codes, self.levels)
        check_context(context, self.context, code.shape[0])
        offsets, at_once = list(self._ends), max(1, self.level.length // self.prior.level.length)
        terms: dict[Place, Tensor] = {}
        for first in range(0, len(offsets), at_once):
            chunk = offsets[first : first + at_once]
            shown = torch.cat([_crop(code, offset, self.prior.level.grid) for offset in chunk])
            (found,) = self.prior((shown,), _stacked([self._under(context, offset) for offset in chunk]))
            terms.update(zip(chunk, found.flatten(1).chunk(len(chunk)), strict=True))
        own = [terms[run.offset][:, run.place : run.place + run.stop - run.start] for run in self._runs]
        return (torch.cat(own, dim=1).unflatten(1, self.level.grid),)

    def sample(
        self,
        context: Context,
        *,
        sampling: Sampling,
        generators: Sequence[Generator],
        given: Codes | None = None,
    ) -> Codes:
        check_context(context, self.context, context.batch)
        return self._drawn_in_order(context, sampling, generators, given, self._draw)

    def _draw(self, drawing: Drawing, contexts: Sequence[Context]) -> None:
        """All codes, run by run; a window is kept from its first run to its last."""
        known = drawing.known()
        codes = F.pad(known, (0, self.level.length - known.shape[1]))
        windows: dict[Place, _Window] = {}
        for run in (run.after(known.shape[1]) for run in self._runs):
            if run.start >= run.stop:
                continue
            if run.offset not in windows:
                windows[run.offset] = _Window([self.prior.start(self._under(one, run.offset)) for one in contexts])
            shown = _crop(codes.unflatten(1, self.level.grid), run.offset, self.prior.level.grid).flatten(1)
            codes[:, run.start : run.stop] = self._drawn(windows[run.offset], shown, run, drawing)
            if run.stop == self._ends[run.offset]:
                del windows[run.offset]

    def _drawn(self, window: _Window, shown: Tensor, run: Run, drawing: Drawing) -> Tensor:
        """The codes (b, n) of a run, given those that its window shows (b, w), of which later ones are not looked at."""
        if window.passed < run.place:  # codes that other windows drew, or this one's first run
            for state in window.states:
                self.prior.skip(state, _before(shown, window.passed), shown[:, window.passed : run.place])
        previous, drawn = _before(shown, run.place), []
        for position in range(run.start, run.stop):
            previous = drawing.code(position, [self.prior.step(state, previous) for state in window.states])
            drawn.append(previous)
        window.passed = run.place + len(drawn)
        return torch.stack(drawn, dim=1)

    def _under(self, context: Context, offset: Place) -> Context:
        """What the window at this offset sees of the context."""
        levels = zip(context.coarser, self.prior.context.coarser, self._ratios, strict=True)
        return context._replace(
            coarser=tuple(_crop(code, _divided(offset, ratio), level.grid) for code, level, ratio in levels)
        )


def _runs(grid: tuple[int, ...], window: tuple[int, ...], strides: tuple[int, ...]) -> list[Run]:
    """All positions of the larger grid, run after run."""
    axes = [
        [min(max(0, stride * ((at - few // 2 + stride // 2) // stride)), many - few) for at in range(many)]
        for many, few, stride in zip(grid, window, strides, strict=True)
    ]
    runs = []
    for row, leading in enumerate(product(*map(range, grid[:-1]))):
        for last, group in groupby(range(grid[-1]), key=axes[-1].__getitem__):
            columns = list(group)
            offset = (*(axis[at] for axis, at in zip(axes, leading, strict=False)), last)
            place = 0
            for at, start, side in zip((*leading, columns[0]), offset, window, strict=True):
                place = place * side + at - start
            runs.append(Run(offset, row * grid[-1] + columns[0], row * grid[-1] + columns[-1] + 1, place))
    return runs


def _ratios(prior: AutoregressivePrior) -> tuple[tuple[int, ...], ...]:
    """How many places of the prior's level lie on one of each coarser level, an axis. Raises ConfigError where they do not."""
    grid = prior.level.grid
    for level in prior.context.coarser:
        if len(level.grid) != len(grid) or any(many % few for many, few in zip(grid, level.grid, strict=True)):
            raise ConfigError(
                f"level {prior.level.name!r}: its windows of {grid} cannot be cut out of the coarser level {level.name!r}, "
                f"whose grid of {level.grid} does not divide them; sample the trained size, or choose a tokenizer "
                "whose grids divide each other"
            )
    return tuple(_divided(grid, level.grid) for level in prior.context.coarser)


def _check_grid(level: Level, grid: tuple[int, ...], steps: tuple[int, ...]) -> None:
    small = len(grid) != len(level.grid) or any(many < few for many, few in zip(grid, level.grid, strict=True))
    if small or any(many % step for many, step in zip(grid, steps, strict=True)):
        aligned = "" if set(steps) == {1} else f", in multiples of {steps}, the places on one of the coarser levels"
        raise ConfigError(
            f"level {level.name!r}: windows of {level.grid} cannot fill a grid of {grid}; "
            f"expected {len(level.grid)} sides, none shorter than the window's{aligned}"
        )


def _stride(level: Level, grid: tuple[int, ...], stride: int | None) -> int:
    """The stride given, or the default. Raises ConfigError for one below 1."""
    if stride is None:
        sides = [few for few, many in zip(level.grid, grid, strict=True) if few < many] or level.grid
        return max(1, min(sides) // 4)
    if stride < 1:
        raise ConfigError(f"level {level.name!r}: windows cannot be moved by {stride}; expected a stride of at least 1")
    return stride


def _divided(sides: Sequence[int], by: Sequence[int]) -> tuple[int, ...]:
    return tuple(side // few for side, few in zip(sides, by, strict=True))


def _crop(codes: Tensor, offset: Place, sides: Sequence[int]) -> Tensor:
    return codes[(slice(None), *(slice(at, at + side) for at, side in zip(offset, sides, strict=True)))]


def _before(codes: Tensor, place: int) -> Tensor | None:
    return codes[:, place - 1] if place else None


def _stacked(contexts: Sequence[Context]) -> Context:
    """Contexts of one batch each as that of all of them, one after the other."""
    coarser = tuple(torch.cat(codes) for codes in zip(*(context.coarser for context in contexts), strict=True))
    labels = contexts[0].labels
    return Context(
        sum(context.batch for context in contexts), coarser, None if labels is None else labels.repeat(len(contexts))
    )
