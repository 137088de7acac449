"""The code model: the product of the priors over all levels, p(codes | labels)."""

from collections.abc import Sequence
from typing import final

import attrs
from torch import Generator, Tensor, nn

from dvgen.assembly import build
from dvgen.blocks.sliding_window import SlidingWindow
from dvgen.errors import ConfigError
from dvgen.experiment import Experiment, PriorChoice
from dvgen.interfaces.codes import Codes, Level, check_codes
from dvgen.interfaces.context import Context, ContextShape
from dvgen.interfaces.prior import AutoregressivePrior, Prior
from dvgen.interfaces.quantizer import MAX_COUNTED
from dvgen.interfaces.sampling import Sampling
from dvgen.registry import Registry


@final
class CodeModel(nn.Module):
    """p(codes | labels) = product over the priors, each seeing the levels before its own. `labels` is (b,) int64 or None.

    exact_levels: whether the log-probability of each level is exact, not a bound; exact: whether that of all together is.
    """

    def __init__(self, priors: Sequence[Prior]) -> None:
        super().__init__()
        self.priors = nn.ModuleList(priors)
        self.levels: tuple[Level, ...] = sum((prior.levels for prior in priors), ())
        self.exact_levels = tuple(prior.exact for prior in priors for _ in prior.levels)
        self.exact = all(self.exact_levels)

    def forward(self, codes: Codes, labels: Tensor | None = None) -> tuple[Tensor, ...]:
        """Log-probability in nats, (b, *grid) a level, one term a code. Raises ShapeError for codes of the wrong shape."""
        return sum((prior(own, context) for prior, own, context in self._parts(codes, labels)), ())

    def loss(self, codes: Codes, labels: Tensor | None = None, noise: Generator | None = None) -> Tensor:
        """What training minimises: the sum of the priors' own losses, a scalar."""
        return sum(prior.loss(own, context, noise) for prior, own, context in self._parts(codes, labels))  # type: ignore[return-value]

    def sample(
        self,
        generators: Sequence[Generator],
        labels: Tensor | None = None,
        *,
        sampling: Sampling,
        given: Codes | None = None,
    ) -> Codes:
        """Draw codes of all levels, one sample a generator; `given` holds codes to keep, MASKED where free.

        Raises ShapeError, before anything is drawn, unless `given` holds codes of every level.
        """
        if given is not None:
            check_codes(given, self.levels)
        drawn: Codes = ()
        for prior in self._each():
            own = None if given is None else given[len(drawn) : len(drawn) + len(prior.levels)]
            context = Context(len(generators), drawn, labels)
            drawn += prior.sample(context, sampling=sampling, generators=generators, given=own)
        return drawn

    def enlarged(self, grids: Sequence[tuple[int, ...]], stride: int | None = None) -> "CodeModel":
        """The same priors over larger grids, one a level, by sliding windows; a level of the trained grid keeps its prior.

        stride: see `SlidingWindow`. The parameters are shared. Raises ConfigError, naming the level, where a prior cannot be
        moved over the grid, or a grid has another ratio to that of a coarser level than the trained ones have.
        """
        if len(grids) != len(self.levels):
            raise ConfigError(f"expected a grid for each of the levels {_names(self.levels)}, got {len(grids)}")
        priors, larger = [], tuple(attrs.evolve(le, grid=tuple(g)) for le, g in zip(self.levels, grids, strict=True))
        first = 0
        for prior in self._each():
            last = first + len(prior.levels)
            moved = _windowed(prior, larger[first:last], stride)
            coarser = moved.context.coarser if isinstance(moved, SlidingWindow) else self.levels[:first]
            _check_coarser(larger[:last], coarser)
            priors.append(moved)
            first = last
        return CodeModel(priors)

    def _parts(self, codes: Codes, labels: Tensor | None) -> list[tuple[Prior, Codes, Context]]:
        check_codes(codes, self.levels)
        parts, first = [], 0
        for prior in self._each():
            last = first + len(prior.levels)
            parts.append((prior, codes[first:last], Context(codes[0].shape[0], codes[:first], labels)))
            first = last
        return parts

    def _each(self) -> list[Prior]:
        return [prior for prior in self.priors if isinstance(prior, Prior)]


def _windowed(prior: Prior, larger: tuple[Level, ...], stride: int | None) -> Prior:
    """The prior, over larger grids where they are. Raises ConfigError where they are, but no window can be moved over them."""
    if larger == prior.levels:
        return prior
    if not isinstance(prior, AutoregressivePrior):
        raise ConfigError(
            f"level {_names(larger)}: {type(prior).__name__} predicts no code from those before it, so no window can be "
            "moved over a larger grid; sample the trained size, or train a prior that draws code after code"
        )
    return SlidingWindow(prior, larger[0].grid, stride)


def _check_coarser(larger: tuple[Level, ...], expected: tuple[Level, ...]) -> None:
    """Raise ConfigError unless the levels before the last have the grids that its own grid asks for."""
    for level, wanted in zip(larger, expected, strict=False):
        if level.grid != wanted.grid:
            raise ConfigError(
                f"level {level.name!r}: a grid of {level.grid}, but {larger[-1].name!r} of {larger[-1].grid} needs one of "
                f"{wanted.grid} there, as in training; enlarge every level by the same factors"
            )


def _names(levels: Sequence[Level]) -> str:
    return ", ".join(repr(level.name) for level in levels)


def assemble_code_model(registry: Registry, experiment: Experiment, levels: tuple[Level, ...], num_classes: int) -> CodeModel:
    """Build the priors an experiment names for these levels.

    One `[prior]` without a level is made anew for each level; otherwise every level needs exactly one prior of its own.
    num_classes: 0 when the model is unconditional. Raises ConfigError for a level of more codes than a prior has logits for.
    """
    for level in levels:
        if level.num_codes > MAX_COUNTED:
            raise ConfigError(
                f"level {level.name!r}: {level.num_codes} codes are too many for a prior, which computes a logit for each; "
                f"at most {MAX_COUNTED}: take fewer codes, or more levels (fsq, lfq, bsq: raise quantizer.factors)"
            )
    priors = []
    for i, (level, choice) in enumerate(zip(levels, choose_priors(experiment.prior, levels), strict=True)):
        context = ContextShape(coarser=levels[:i], num_classes=num_classes)
        priors.append(build(registry, "prior", choice, levels=(level,), context=context))
    return CodeModel(priors)


def choose_priors(choices: Sequence[PriorChoice], levels: Sequence[Level]) -> list[PriorChoice]:
    """The choice for each level, in order. Raises ConfigError when a level has none or several, or a name is unknown."""
    names = [level.name for level in levels]
    if len(choices) == 1 and choices[0].level is None:
        return [choices[0]] * len(levels)
    by_level = {choice.level: choice for choice in choices}
    if sorted(map(str, by_level)) != sorted(names) or len(by_level) != len(choices):
        given = ", ".join("no level" if choice.level is None else choice.level for choice in choices)
        raise ConfigError(f"prior: expected one prior for each of the levels {', '.join(names)}; got priors for {given}")
    return [by_level[name] for name in names]
