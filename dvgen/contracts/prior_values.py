"""Properties R1 to R6, and R15: what a prior says of codes.

Shapes: b batch, *grid of a level.
"""

import copy
import math
from functools import partial
from typing import Any

import torch
from attrs import evolve
from torch import Generator, Tensor

from dvgen.contracts.law import law, must_raise, require, require_close, require_equal
from dvgen.contracts.model_subject import ROUNDING, Example, mapped, sample_of
from dvgen.contracts.prior_subject import PriorSubject, every_map, generators, log_probability, repeated
from dvgen.contracts.random_states import random_states_kept
from dvgen.errors import ShapeError
from dvgen.interfaces.codes import MASKED, Codes
from dvgen.interfaces.context import UNCONDITIONAL, Context
from dvgen.interfaces.sampling import Sampling

HIDDEN = 0.4
"""Share of codes that are masked where some are."""

MANY = 64
"""Samples of a batch in which a thing that happens to few of them happens to some."""

REPEATS = 4
"""How often that batch is tried."""


@law("R1", "terms are (b, *grid) a level, finite, never above 0, and float32 or wider under autocast and in half precision")
@torch.no_grad()
def terms(subject: PriorSubject, example: Example) -> None:
    prior = subject.prepared(example)
    codes, context = subject.inputs(example)
    _check_terms(prior(codes, context), codes, torch.float64, "float64")
    single = copy.deepcopy(prior).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _check_terms(single(codes, context), codes, torch.float32, "float32 under autocast")
    _check_terms(single.bfloat16()(codes, context), codes, torch.float32, "bfloat16")


@law("R2", "a masked code costs 0 and no other less, and the loss is finite with masked codes in codes and context")
def masked(subject: PriorSubject, example: Example) -> None:
    prior = subject.prepared(example)
    codes, context = subject.inputs(example)
    hidden = tuple(torch.rand(code.shape, generator=example.generator(5)) < HIDDEN for code in codes)
    some = tuple(code.masked_fill(where, MASKED) for code, where in zip(codes, hidden, strict=True))
    for found, where in zip(prior(some, context), hidden, strict=True):
        require((found[where] == 0).all(), "a masked code costs something, expected exactly 0")
        require((found[~where] < 0).all(), "a code that is not masked costs nothing")
    prior.train()
    noise = example.generator(6)
    coarser = tuple(code.masked_fill(torch.rand(code.shape, generator=noise) < HIDDEN, MASKED) for code in context.coarser)
    learned = tuple(code.index_fill(0, torch.tensor([0]), 0) for code in some)  # a loss of nothing at all is not defined
    value = prior.loss(learned, context._replace(coarser=coarser), noise)
    value.backward()
    require(value.ndim == 0 and bool(value.isfinite()), f"the loss with masked codes is {value}, expected a finite scalar")
    wild = [name for name, p in prior.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    require(not wild, f"the gradient with masked codes is not finite of {wild}")


@law("R3", "probabilities of all code maps sum to 1, for every context and without a label; of a bound, to no more",
     applies=lambda s: bool(s.spaces), once=True)  # fmt: skip
def normalised(subject: PriorSubject, example: Example) -> None:
    for index in subject.spaces:
        here = evolve(example, shape=index)
        prior = subject.prepared(here)
        codes = every_map(subject.situation(here).levels)
        context = subject.inputs(here)[1]
        for i in range(example.batch):
            alike = repeated(context, len(codes[0]), i)
            for given in (alike, alike.unconditional()):
                total = float(log_probability(prior, codes, given).exp().sum())
                right = abs(total - 1) <= ROUNDING if prior.exact else total <= 1 + ROUNDING
                wanted = "1" if prior.exact else "at most 1"
                require(right, f"{subject.situation(here).levels}: probabilities sum to {total:.12g}, expected {wanted}")


@law("R3", "equal logits cost log(num_codes) a code, the first one too", applies=lambda s: s.autoregressive)
@torch.no_grad()
def equal_logits(subject: PriorSubject, example: Example) -> None:
    """Held to it is a `forward` that asks for the logits of all places; one that does not is held to R9 alone."""
    prior = subject.prepared(example)
    (codes,), context = subject.inputs(example)
    asked: list[Tensor] = []

    def equal(codes: Tensor, context: Context) -> Tensor:
        asked.append(torch.zeros(*codes.shape, prior.level.num_codes, dtype=torch.float64))
        return asked[-1]

    prior.logits = equal
    (found,) = prior((codes,), context)
    if asked:
        expected = torch.full_like(found, -math.log(prior.level.num_codes))
        require_close(found, expected, "terms of equal logits", relative=ROUNDING)


@law("R15", "the terms of samples in another order are the same terms in that order")
@torch.no_grad()
def another_order(subject: PriorSubject, example: Example) -> None:
    prior = subject.prepared(example)
    inputs = subject.inputs(evolve(example, batch=max(3, example.batch)))
    turned = prior(*mapped(inputs, lambda tensor: tensor.flip(0)))
    for i, (found, expected) in enumerate(zip(turned, prior(*inputs), strict=True)):
        require_close(found.flip(0), expected, f"terms of level {i} in another order", relative=ROUNDING)


@law("R4", "equal noise gives an equal loss, and where the prior is exact and drops nothing, minus the mean of its terms")
@torch.no_grad()
def loss(subject: PriorSubject, example: Example) -> None:
    prior = subject.prepared(example)
    for batch, times in ((example.batch, 1), (MANY, REPEATS)):
        inputs = subject.inputs(evolve(example, batch=batch))
        with random_states_kept("the loss, in evaluation and given noise,"):
            first = prior.loss(*inputs, Generator().manual_seed(3))
        require(first.ndim == 0 and first.is_floating_point(), f"the loss has shape {tuple(first.shape)}, expected a scalar")
        for _ in range(times):
            require_equal(prior.loss(*inputs, Generator().manual_seed(3)), first, "the loss with equal noise")
            if prior.exact:
                _check_plain_loss(prior, inputs)


def _check_plain_loss(prior: Any, inputs: tuple[Any, ...]) -> None:
    values = torch.cat([found.flatten() for found in prior(*inputs)])
    with random_states_kept("the loss, in evaluation and without noise,"):
        plain = prior.loss(*inputs)
    allowed = ROUNDING * float(values.abs().max())
    require(abs(float(plain + values.mean())) <= allowed, f"the loss is {plain}, minus the mean of terms {-values.mean()}")


@law("R5", "every label, no label, and each code of every coarser level, masked too, change the probability",
     applies=lambda s: bool(s.conditional))  # fmt: skip
def context_counts(subject: PriorSubject, example: Example) -> None:
    for index in subject.conditional:
        here = evolve(example, shape=index)
        prior, shape = subject.prepared(here), subject.situation(here).context
        codes, context = sample_of(subject.inputs(here), 0)
        if shape.num_classes:
            labels = torch.arange(UNCONDITIONAL, shape.num_classes)
            found = _log_probability(prior, codes, repeated(context, len(labels))._replace(labels=labels))
            require(len(found.unique()) == len(found), "two labels, or a label and none, give the same probability")
        for level, code in enumerate(context.coarser):
            edited = _edited(code, shape.coarser[level].num_codes)
            same = repeated(context, len(edited))
            coarser = (*same.coarser[:level], edited, *same.coarser[level + 1 :])
            found = _log_probability(prior, codes, same._replace(coarser=coarser))
            require((found[1:] != found[0]).all(), f"some code of coarser level {level} does not change the probability")


@law("R6", "a context of another batch, without the labels or levels it was built for, or with others, raises ShapeError",
     once=True)  # fmt: skip
def wrong_contexts(subject: PriorSubject, example: Example) -> None:
    for index in range(len(subject.situations)):
        here = evolve(example, batch=3, shape=index)
        prior = subject.prepared(here)
        codes, context = subject.inputs(here)
        for what, wrong in _wrong(context).items():
            must_raise(partial(prior, codes, wrong), ShapeError, f"forward with {what}")
            must_raise(partial(_sampled, prior, wrong, context.batch), ShapeError, f"sample with {what}")
        for count in (2, 4):
            must_raise(partial(_sampled, prior, context, count), ShapeError, f"sample with {count} generators")
        fewer = tuple(code[:-1] for code in codes)
        act = partial(_sampled, prior, context, context.batch, fewer)
        must_raise(act, ShapeError, "sample with `given` of fewer samples")


def _sampled(prior: Any, context: Context, count: int, given: Codes | None = None) -> Codes:
    found: Codes = prior.sample(context, sampling=Sampling(), generators=generators(count, 0), given=given)
    return found


def _check_terms(found: tuple[Tensor, ...], codes: Codes, dtype: torch.dtype, what: str) -> None:
    require(len(found) == len(codes), f"{what}: {len(found)} tensors of terms for {len(codes)} levels")
    for one, code in zip(found, codes, strict=True):
        require(one.shape == code.shape, f"{what}: terms of shape {tuple(one.shape)}, expected {tuple(code.shape)}")
        require(
            torch.finfo(one.dtype).bits >= torch.finfo(dtype).bits, f"{what}: terms of {one.dtype}, expected {dtype} or wider"
        )
        require(one.isfinite().all() and (one <= 0).all(), f"{what}: terms must be finite and at most 0, got {one.max()}")


def _edited(code: Tensor, num_codes: int) -> Tensor:
    """Codes (1, *grid) and behind them, at each place in turn, another code and none: (1 + 2 * length, *grid)."""
    flat = code.flatten(1)
    rows = flat.repeat(1 + 2 * flat.shape[1], 1)
    for place in range(flat.shape[1]):
        rows[1 + 2 * place, place] = (flat[0, place] + 1) % num_codes
        rows[2 + 2 * place, place] = MASKED
    return rows.unflatten(1, code.shape[1:])


def _log_probability(prior: Any, codes: Codes, context: Context) -> Tensor:
    """Of one map in each of the contexts, rounded to what is no rounding."""
    same = tuple(code.expand(context.batch, *code.shape[1:]) for code in codes)
    return log_probability(prior, same, context).round(decimals=10)


def _wrong(context: Context) -> dict[str, Context]:
    wrong = {"another batch": mapped(context, lambda tensor: tensor[:-1], context.batch - 1)}
    if context.labels is None:
        wrong["labels"] = context._replace(labels=torch.zeros(context.batch, dtype=torch.int64))
    else:
        wrong["no labels"] = context._replace(labels=None)
        wrong["labels of fewer samples"] = context._replace(labels=context.labels[:-1])
    if context.coarser:
        wrong["no coarser codes"] = context._replace(coarser=())
        wrong["coarser codes of a smaller grid"] = context._replace(coarser=tuple(code[..., :-1] for code in context.coarser))
    else:
        wrong["coarser codes"] = context._replace(coarser=(torch.zeros(context.batch, 1, dtype=torch.int64),))
    return wrong
