"""Priors: p(codes | context), their likelihood and their samples."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from attrs import field, frozen
from attrs.validators import ge, gt, le, optional
from einops import rearrange
from torch import Generator, Tensor, nn

from dvgen.errors import ConfigError, NonFiniteError, ShapeError
from dvgen.interfaces.codes import MASKED, Codes, Level, check_codes
from dvgen.interfaces.context import Context, ContextShape
from dvgen.interfaces.model import Model

State = Any
"""What an autoregressive prior carries from one position to the next; opaque to everyone else."""


@frozen(kw_only=True)
class Sampling:
    """How codes are drawn.

    temperature: divides the logits. top_k: keep the k likeliest codes (None: all). top_p: keep the smallest set of codes
    whose probability (after top_k) reaches p; among equals the lower code goes first. guidance: classifier-free guidance
    scale, on the logits; 1 is off, 0 ignores the labels.
    """

    temperature: float = field(default=1.0, validator=gt(0))
    top_k: int | None = field(default=None, validator=optional(ge(1)))
    top_p: float = field(default=1.0, validator=[gt(0), le(1)])
    guidance: float = field(default=1.0, validator=ge(0))


class Prior(Model, ABC):
    """A distribution over the codes of one or several consecutive levels; `__init__(config, *, levels, context)`.

    levels: tuple[Level, ...], what it models. context: ContextShape, what it may look at.
    exact: False when `forward` is only a lower bound of the log-probability; such values are printed with "<=".
    Raises ConfigError when it cannot model these levels.
    """

    exact: bool = True
    levels: tuple[Level, ...]

    @abstractmethod
    def forward(self, codes: Codes, context: Context) -> tuple[Tensor, ...]:
        """Log-probability in nats, (b, *grid) a level, one term a code; 0 where the code is MASKED.

        float32, or float64 when the model is.
        """

    @abstractmethod
    def sample(
        self,
        context: Context,
        *,
        sampling: Sampling,
        generators: Sequence[Generator],
        given: Codes | None = None,
    ) -> Codes:
        """Draw codes, (b, *grid) int64 a level, one generator (on the CPU) a sample.

        Sample i depends on generator i and not on the batch it is drawn in. given: codes to keep, MASKED where free.
        Draws from the distribution of evaluation (no dropout) whatever the training flag is, and leaves the flag as it
        was: see `evaluating`. Raises ShapeError when generators or `given` do not match the context's batch.
        """

    def loss(self, codes: Codes, context: Context, noise: Generator | None = None) -> Tensor:
        """What training minimises, a scalar: minus the mean of `forward` over all codes that are not masked, 0 if all are."""
        terms = self(codes, context)
        count = torch.stack([(code != MASKED).sum() for code in codes]).sum()
        return -sum(term.sum() for term in terms) / count.clamp(min=1)  # type: ignore[return-value]


class AutoregressivePrior(Prior, ABC):
    """A prior over one level that predicts one code after the other, in raster order (the last axis fastest).

    A subclass supplies the teacher-forced `logits` and the same function one position at a time, `start` and `step`;
    likelihood and sampling are written once, here. A masked code is shown to later positions as code 0.
    """

    def __init__(self, *, levels: tuple[Level, ...], context: ContextShape) -> None:
        super().__init__()
        if len(levels) != 1:
            raise ConfigError(f"{type(self).__name__} models one level, got {len(levels)}")
        self.levels = levels
        self.level = levels[0]
        self.context = context

    @abstractmethod
    def logits(self, codes: Tensor, context: Context) -> Tensor:
        """(b, *grid, num_codes): the logits of each position given the true codes (b, *grid) before it."""

    @abstractmethod
    def start(self, context: Context) -> State:
        """The state before the first position. The context is processed here, once."""

    @abstractmethod
    def step(self, state: State, previous: Tensor | None) -> Tensor:
        """Logits (b, num_codes) of the next position given the code just drawn, (b,) int64; None at the first position.

        Equal to `logits` to rounding. The state is updated in place.
        """

    def forward(self, codes: Codes, context: Context) -> tuple[Tensor, ...]:
        (code,) = codes
        known = code.clamp(min=0)
        logits = self.logits(known, context)
        log_probs = torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=-1)
        terms = rearrange(log_probs.gather(-1, known.unsqueeze(-1)), "... 1 -> ...")
        return (torch.where(code == MASKED, torch.zeros_like(terms), terms),)

    @torch.no_grad()
    def sample(
        self,
        context: Context,
        *,
        sampling: Sampling,
        generators: Sequence[Generator],
        given: Codes | None = None,
    ) -> Codes:
        check_batch(self.levels, context, generators, given)
        device = next(self.parameters()).device
        # every position takes its number, drawn or given, so that completing a sample repeats its free positions
        uniforms = torch.stack([torch.rand(self.level.length, generator=g, dtype=torch.float64) for g in generators])
        uniforms = uniforms.to(device)
        keep = None if given is None else given[0].flatten(1)
        drawn: list[Tensor] = []
        with evaluating(self):
            states = [self.start(context)]
            if sampling.guidance != 1.0:
                states.append(self.start(context.unconditional()))
            for position in range(self.level.length):
                previous = drawn[-1] if drawn else None
                logits = [self.step(state, previous).double() for state in states]
                guided = logits[0] if len(logits) == 1 else logits[1] + sampling.guidance * (logits[0] - logits[1])
                code = draw(guided, uniforms[:, position], sampling)
                drawn.append(code if keep is None else torch.where(keep[:, position] == MASKED, code, keep[:, position]))
        return (torch.stack(drawn, dim=1).unflatten(1, self.level.grid),)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation (dropout off) for a block of code, and every module's training flag back afterwards."""
    trained = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in trained:
            module.training = True


def draw(logits: Tensor, uniform: Tensor, sampling: Sampling) -> Tensor:
    """One code a row, (b,) int64, from logits (b, num_codes) and uniform numbers (b,) in [0, 1), by inversion in float64.

    Inversion needs one number a draw, so a sample is a function of its own generator alone. A code of probability zero is
    never drawn. Raises NonFiniteError for a row that is no distribution: NaN, +inf, or -inf throughout.
    """
    scores = logits.double()
    probabilities = ((scores - scores.amax(dim=-1, keepdim=True)) / sampling.temperature).softmax(dim=-1)
    probabilities = _truncate(probabilities, sampling)
    # A code of probability zero must share its cumulative value with the code before it, and the values must not fall:
    # a parallel cumsum promises neither.
    cumulative = probabilities.cumsum(dim=-1).masked_fill(probabilities == 0, 0.0).cummax(dim=-1).values
    total = cumulative[..., -1:].contiguous()
    if not bool((total > 0).all()):
        raise NonFiniteError("cannot draw a code: the logits are NaN, +inf, or -inf for every code; the prior has diverged")
    # right=True: the first code whose cumulative value exceeds the target. None exceeds the total, which a uniform number
    # that was rounded up to 1 in a narrower type would make the target; then it is the last code that adds to the total.
    found = torch.searchsorted(cumulative, uniform.double().unsqueeze(-1) * total, right=True)
    last = torch.searchsorted(cumulative, total)
    return torch.minimum(found, last).squeeze(-1)


def _truncate(probabilities: Tensor, sampling: Sampling) -> Tensor:
    """Probabilities with zeros where top_k or top_p leaves a code out; not renormalised."""
    if sampling.top_k is None and sampling.top_p == 1.0:
        return probabilities
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    if sampling.top_k is not None:
        ordered[..., sampling.top_k :] = 0.0
    if sampling.top_p < 1.0:
        reached = ordered.cumsum(dim=-1) / ordered.sum(dim=-1, keepdim=True)
        # the likeliest code always stays; a further one while those before it have not reached p
        ordered[..., 1:] = ordered[..., 1:].masked_fill(reached[..., :-1] >= sampling.top_p, 0.0)
    return torch.zeros_like(probabilities).scatter(-1, order, ordered)


def check_batch(levels: tuple[Level, ...], context: Context, generators: Sequence[Generator], given: Codes | None) -> None:
    """Raise ShapeError unless there is one generator a sample, and `given`, if any, holds codes of these levels for each."""
    if len(generators) != context.batch or not generators:
        expected = context.batch or "at least one"
        raise ShapeError(f"sampling needs one generator a sample: expected {expected}, got {len(generators)}")
    if given is None:
        return
    check_codes(given, levels)
    if any(code.shape[0] != context.batch for code in given):
        raise ShapeError(f"`given` must hold codes of {context.batch} samples, got {[code.shape[0] for code in given]}")
