"""Priors with one bug each in what they say of codes (R1 to R9, R15), and what that asks of every model."""

from typing import Any

import torch
from component_mutants import planted
from contract_toys import ToyPrior, ToyTable
from torch import Generator, Tensor
from torch.nn import functional as F

from dvgen.blocks.conditioning import drop_labels
from dvgen.interfaces.codes import MASKED, Codes, Level
from dvgen.interfaces.context import Context, ContextShape


@planted("R1 terms")  # the sum of the terms of a batch in half precision is off by nats
class TermsInHalfPrecision(ToyPrior):
    def forward(self, codes: Codes, context: Context) -> tuple[Tensor, ...]:
        logits = self.logits(codes[0].clamp(min=0), context)
        (terms,) = super().forward(codes, context)
        return (terms.to(logits.dtype),)


@planted("R1 terms")
class SumsOverPlaces(ToyPrior):
    def forward(self, codes: Codes, context: Context) -> tuple[Tensor, ...]:
        return (super().forward(codes, context)[0].flatten(1).sum(dim=1),)


@planted("R2 masked")
class MaskedCodesCost(ToyPrior):
    def forward(self, codes: Codes, context: Context) -> tuple[Tensor, ...]:
        return super().forward((codes[0].clamp(min=0),), context)


@planted("R3 normalised")
class SharpLikelihood(ToyTable):
    def forward(self, codes: Codes, context: Context) -> tuple[Tensor, ...]:
        return tuple(0.9 * terms for terms in super().forward(codes, context))


@planted("R3 normalised")
class BoundThatIsNone(ToyTable):
    exact = False

    def forward(self, codes: Codes, context: Context) -> tuple[Tensor, ...]:
        return tuple(0.9 * terms for terms in super().forward(codes, context))


@planted("R3 equal_logits")
class FirstCodeIsFree(ToyPrior):
    def forward(self, codes: Codes, context: Context) -> tuple[Tensor, ...]:
        (terms,) = super().forward(codes, context)
        flat = terms.flatten(1)
        return (torch.cat([flat[:, :1] * 0, flat[:, 1:]], dim=1).view_as(terms),)


@planted("R15 another_order")
class FirstOfTheBatchIsSpecial(ToyPrior):
    def logits(self, codes: Tensor, context: Context) -> Tensor:
        logits = super().logits(codes, context)
        logits[2:] = 2 * logits[2:]
        return logits


@planted("R4 loss")
class NoiseOfItsOwn(ToyPrior):
    def loss(self, codes: Codes, context: Context, noise: Generator | None = None) -> Tensor:
        shown = torch.rand(codes[0].shape) < 0.7
        return super().loss((codes[0].masked_fill(~shown, MASKED),), context, noise)


@planted("R4 loss")  # so seldom that no batch of a test shows it
class DropsFewLabelsWithoutNoise(ToyPrior):
    def loss(self, codes: Codes, context: Context, noise: Generator | None = None) -> Tensor:
        return super().loss(codes, drop_labels(context, 0.001, noise or torch.default_generator), noise)


@planted("R4 loss")  # random numbers of its own, which no state tells of
class DropsLabelsOnItsOwn(ToyPrior):
    def loss(self, codes: Codes, context: Context, noise: Generator | None = None) -> Tensor:
        own = Generator()
        own.seed()
        return super().loss(codes, drop_labels(context, 0.1, own), noise)


@planted("R4 loss")
class DropsTheSameLabelsWithoutNoise(ToyPrior):
    def loss(self, codes: Codes, context: Context, noise: Generator | None = None) -> Tensor:
        return super().loss(codes, drop_labels(context, 0.05, noise or Generator().manual_seed(0)), noise)


@planted("R4 loss")
class SumOverCodes(ToyPrior):
    def loss(self, codes: Codes, context: Context, noise: Generator | None = None) -> Tensor:
        return super().loss(codes, context, noise) * self.level.length


@planted("R5 context_counts")
class IgnoresLabels(ToyTable):
    def log_probs(self, i: int, context: Context) -> Tensor:
        return super().log_probs(i, context.unconditional())


@planted("R5 context_counts")
class UnknownIsTheFirstLabel(ToyPrior):
    def surroundings(self, context: Context) -> Tensor:
        known = context.labels
        return super().surroundings(context if known is None else context._replace(labels=known.clamp(min=0)))


@planted("R5 context_counts")
class IgnoresTheLastCoarserLevel(ToyPrior):
    def surroundings(self, context: Context) -> Tensor:
        return super().surroundings(context._replace(coarser=tuple(code * 0 for code in context.coarser)))


@planted("R6 wrong_contexts")
class ChecksNoContext(ToyTable):
    def forward(self, codes: Codes, context: Context) -> tuple[Tensor, ...]:
        if context.batch == len(codes[0]):
            context = context._replace(coarser=())
        return super().forward(codes, context)


@planted("R7 causal_by_edit")  # a mask of the first convolution or attention that lets the centre through
class SeesTheCodeItPredicts(ToyPrior):
    def logits(self, codes: Tensor, context: Context) -> Tensor:
        return super().logits(codes, context) + 0.1 * F.one_hot(codes, self.level.num_codes)


@planted("R7 causal_by_edit")
class BlindToTheFirstCode(ToyPrior):
    def logits(self, codes: Tensor, context: Context) -> Tensor:
        hidden = codes.flatten(1).clone()
        hidden[:, 0] = 0
        return super().logits(hidden.view_as(codes), context)


@planted("R8 causal_by_gradient")  # a shut gate: here too small for an edit to show
class SmallLeak(ToyPrior):
    def logits(self, codes: Tensor, context: Context) -> Tensor:
        leak = 1e-30 * self.codes(codes).sum(dim=-1, keepdim=True)
        return super().logits(codes, context) + leak


@planted("R9 steps_give_logits")
class CacheForgets(ToyPrior):
    def step(self, state: dict[str, Any], previous: Tensor | None) -> Tensor:
        state["sum"] = torch.zeros_like(state["sum"])
        return super().step(state, previous)


@planted("R9 steps_give_logits")
class PlacesOffByOne(ToyPrior):
    def step(self, state: dict[str, Any], previous: Tensor | None) -> Tensor:
        state["place"] = min(max(state["place"], 1), self.level.length - 1)
        return super().step(state, previous)


@planted("R9 steps_give_terms")
class SoftmaxOverPlaces(ToyPrior):
    def forward(self, codes: Codes, context: Context) -> tuple[Tensor, ...]:
        (code,) = codes
        log_probs = self.logits(code.clamp(min=0), context).log_softmax(dim=1)
        terms = log_probs.gather(-1, code.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        return (torch.where(code == MASKED, 0.0, terms),)


@planted("R9 skips_are_steps")
class SkipsTheLastCode(ToyPrior):
    def skip(self, state: dict[str, Any], previous: Tensor | None, codes: Tensor) -> None:
        super().skip(state, previous, codes[:, :-1])


@planted("R9 skips_are_steps")
class SkipsFromTheStart(ToyPrior):  # right from the first position, and from nowhere else
    def skip(self, state: dict[str, Any], previous: Tensor | None, codes: Tensor) -> None:
        super().skip(state, None, codes)


@planted("R9 states_are_apart")
class StateOnTheModel(ToyPrior):
    def start(self, context: Context) -> dict[str, Any]:
        self.kept = super().start(context)
        return {}

    def step(self, state: dict[str, Any], previous: Tensor | None) -> Tensor:
        return super().step(self.kept, previous)


@planted("R9 nothing_is_written")
class WritesToCodes(ToyPrior):
    def step(self, state: dict[str, Any], previous: Tensor | None) -> Tensor:
        logits = super().step(state, previous)
        if previous is not None:
            previous.zero_()
        return logits


@planted("M5 moves_whole", "RuntimeError", "Broken")
class MaskStaysBehind(ToyPrior):
    def __init__(self, config: Any, *, levels: tuple[Level, ...], context: ContextShape) -> None:
        super().__init__(config, levels=levels, context=context)
        self.allowed = torch.zeros(self.level.num_codes)

    def logits(self, codes: Tensor, context: Context) -> Tensor:
        return super().logits(codes, context) + self.allowed


@planted("M9 gradient_reach")
class BlindToPlaceAndContext(ToyPrior):
    def loss(self, codes: Codes, context: Context, noise: Generator | None = None) -> Tensor:
        return super().loss(codes, context._replace(labels=None, coarser=()), noise)

    def logits(self, codes: Tensor, context: Context) -> Tensor:
        return self.head(self.codes(codes.flatten(1))).unflatten(1, self.level.grid)
