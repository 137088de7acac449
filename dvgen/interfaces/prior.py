"""Priors: p(codes | context), their likelihood and their samples."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from attrs import field, frozen
from attrs.validators import ge, gt, le, optional
from einops import rearrange
from torch import Generator, Tensor

from dvgen.errors import ConfigError
from dvgen.interfaces.codes import MASKED, Codes, Level
from dvgen.interfaces.context import Context, ContextShape
from dvgen.interfaces.model import Model

State = Any
"""What an autoregressive prior carries from one position to the next; opaque to everyone else."""


@frozen(kw_only=True)
class Sampling:
    """How codes are drawn.

    temperature: divides the logits. top_k: keep the k likeliest codes (None: all). top_p: keep the smallest set of codes
    whose probability reaches p. guidance: classifier-free guidance scale; 1 is off.
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
        """Log-probability in nats, float32 (b, *grid) a level, one term a code; 0 where the code is MASKED."""

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
        """

    def loss(self, codes: Codes, context: Context, noise: Generator | None = None) -> Tensor:
        """What training minimises, a scalar: minus the mean of `forward` over all codes that are not masked."""
        terms = self(codes, context)
        count = sum((code != MASKED).sum() for code in codes)
        return -sum(term.sum() for term in terms) / count  # type: ignore[return-value]


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
        log_probs = torch.log_softmax(self.logits(known, context).float(), dim=-1)
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
        device = next(self.parameters()).device
        uniforms = torch.stack([torch.rand(self.level.length, generator=g, dtype=torch.float64) for g in generators])
        uniforms = uniforms.to(device)
        states = [self.start(context)]
        if sampling.guidance != 1.0:
            states.append(self.start(context.unconditional()))
        keep = None if given is None else given[0].flatten(1)
        drawn: list[Tensor] = []
        for position in range(self.level.length):
            previous = drawn[-1] if drawn else None
            logits = [self.step(state, previous).float() for state in states]
            guided = logits[0] if len(logits) == 1 else logits[1] + sampling.guidance * (logits[0] - logits[1])
            code = draw(guided, uniforms[:, position], sampling)
            drawn.append(code if keep is None else torch.where(keep[:, position] == MASKED, code, keep[:, position]))
        return (torch.stack(drawn, dim=1).unflatten(1, self.level.grid),)


def draw(logits: Tensor, uniform: Tensor, sampling: Sampling) -> Tensor:
    """One code a row, (b,) int64, from logits (b, num_codes) and uniform numbers (b,) in [0, 1), by inversion in float64.

    Inversion needs one number a draw, so a sample is a function of its own generator alone.
    """
    scores = logits.double() / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < scores.shape[-1]:
        kth = scores.topk(sampling.top_k, dim=-1).values[..., -1:]
        scores = scores.masked_fill(scores < kth, -torch.inf)
    probabilities = scores.softmax(dim=-1)
    if sampling.top_p < 1.0:
        ordered, order = probabilities.sort(dim=-1, descending=True)
        before = ordered.cumsum(dim=-1) - ordered
        kept = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before < sampling.top_p)
        probabilities = probabilities.where(kept, torch.zeros_like(probabilities))
    cumulative = probabilities.cumsum(dim=-1)
    target = uniform.to(cumulative.dtype).unsqueeze(-1) * cumulative[..., -1:]
    # right=True skips codes of probability zero, which share their cumulative value with the code before them
    found = torch.searchsorted(cumulative, target, right=True).squeeze(-1)
    return found.clamp(max=logits.shape[-1] - 1)
