"""Properties R7 to R9, of autoregressive priors: what a position may see, and that sampling sees the same.

Shapes: b batch, *grid of the level, k codes, t places in raster order.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from attrs import evolve
from torch import Tensor, nn

from dvgen.contracts.law import law, require, require_close, require_equal
from dvgen.contracts.model_subject import ROUNDING, Example, weighted
from dvgen.contracts.prior_subject import PriorSubject
from dvgen.interfaces.context import Context


def autoregressive(subject: PriorSubject) -> bool:
    """Applies to priors that predict one code after the other."""
    return subject.autoregressive


@law("R7", "changing a code changes no logits up to its own, bit for bit, and some after it", applies=autoregressive)
@torch.no_grad()
def causal_by_edit(subject: PriorSubject, example: Example) -> None:
    prior = subject.prepared(example)
    (codes,), context = subject.inputs(example)
    before = prior.logits(codes, context)
    wanted = (*codes.shape, prior.level.num_codes)
    require(tuple(before.shape) == wanted, f"logits of shape {tuple(before.shape)}, expected {wanted}")
    length = prior.level.length
    for j in range(length):
        edited = codes.flatten(1).clone()
        edited[:, j] = (edited[:, j] + 1) % prior.level.num_codes
        after = prior.logits(edited.unflatten(1, prior.level.grid), context)
        changed = (after != before).flatten(1, -2).any(dim=-1)
        early = changed[:, : j + 1].any(dim=0).nonzero().flatten().tolist()
        require(not early, f"the code at place {j} changes the logits of places {early}")
        require(j + 1 == length or bool(changed.any(dim=1).all()), f"the code at place {j} changes no logits after it")


@law("R8", "no gradient leads from the logits of a place to the embedded code there or after it", applies=autoregressive)
def causal_by_gradient(subject: PriorSubject, example: Example) -> None:
    """An edit misses a path that is shut for these numbers; a gradient of zero at every one is a path that is not there.

    Embedded codes are what an nn.Embedding returns for the codes, or for all but the last; a prior that makes no use of one is
    held to R7 alone.
    """
    prior = subject.prepared(example)
    (codes,), context = subject.inputs(evolve(example, batch=3))
    with _embedded(prior, codes) as leaves:
        logits = prior.logits(codes, context).flatten(1, -2)
    for place in range(prior.level.length if leaves else 0):
        gradients = torch.autograd.grad(weighted(logits[:, place]), leaves, retain_graph=True, allow_unused=True)
        for gradient in gradients:
            rows = None if gradient is None else gradient.reshape(len(codes), -1, gradient.shape[-1])
            late = rows is not None and bool((rows[:, place:] != 0).any())
            require(not late, f"the logits of place {place} have a gradient to codes from there on")


@law("R9", "one position at a time gives the logits of all at once", applies=autoregressive)
@torch.no_grad()
def steps_give_logits(subject: PriorSubject, example: Example) -> None:
    prior = subject.prepared(example)
    (codes,), context = subject.inputs(example)
    state, previous = prior.start(context), None
    for place, expected in _places(prior, codes, context):
        require_close(prior.step(state, previous), expected, f"logits of place {place}, by step", relative=ROUNDING)
        previous = codes.flatten(1)[:, place]


@law(
    "R9", "`forward` tells of each code the log-probability that it has by step, after those before it", applies=autoregressive
)
@torch.no_grad()
def steps_give_terms(subject: PriorSubject, example: Example) -> None:
    prior = subject.prepared(example)
    (codes,), context = subject.inputs(example)
    (terms,) = prior((codes,), context)
    state, previous = prior.start(context), None
    for place in range(prior.level.length):
        logits = prior.step(state, previous)
        previous = codes.flatten(1)[:, place]
        expected = logits.gather(1, previous.unsqueeze(1)).squeeze(1) - logits.logsumexp(dim=1)
        require_close(terms.flatten(1)[:, place], expected, f"terms of place {place}, and by step", relative=ROUNDING)


@law("R9", "known codes that are skipped leave the state that steps would", applies=autoregressive)
@torch.no_grad()
def skips_are_steps(subject: PriorSubject, example: Example) -> None:
    prior = subject.prepared(example)
    (codes,), context = subject.inputs(example)
    flat, places = codes.flatten(1), list(_places(prior, codes, context))
    for first, last in itertools.combinations(range(len(places)), 2):
        state, kept = prior.start(context), flat.clone()
        for end, start in ((first, 0), (last, first)):
            prior.skip(state, flat[:, start - 1] if start else None, flat[:, start:end])
        logits = prior.step(state, flat[:, last - 1])
        what = f"logits of place {last}, after skipping {first} and then {last - first} places"
        require_close(logits, places[last][1], what, relative=ROUNDING)
        require_equal(flat, kept, "codes after skipping")


@law("R9", "two samplings at once, of other codes in other contexts, do not disturb each other", applies=autoregressive)
@torch.no_grad()
def states_are_apart(subject: PriorSubject, example: Example) -> None:
    prior = subject.prepared(example)
    (codes,), context = subject.inputs(example)
    others = [tuple(code.flip(0) for code in context.coarser), None if context.labels is None else context.labels.flip(0)]
    pairs = [(codes, context), (codes.flip(0), Context(context.batch, *others))]  # type: ignore[arg-type]
    states = [prior.start(one) for _, one in pairs]
    # the one that started first last: what it keeps may not be overwritten by the other
    for place in range(prior.level.length):
        for (own, _), state, which in reversed(list(zip(pairs, states, (0, 1), strict=True))):
            logits = prior.step(state, own.flatten(1)[:, place - 1] if place else None)
            expected = prior.logits(*pairs[which]).flatten(1, -2)[:, place]
            require_close(logits, expected, f"logits of place {place}, with another sampling between", relative=ROUNDING)


@law("R9", "`logits` write neither to codes nor context, and a step does not write to the code it is given", once=True,
     applies=autoregressive)  # fmt: skip
@torch.no_grad()
def nothing_is_written(subject: PriorSubject, example: Example) -> None:
    prior = subject.prepared(example)
    (codes,), context = subject.inputs(example)
    kept = codes.clone()
    prior.logits(codes, context)
    state = prior.start(context)
    prior.step(state, None)
    prior.step(state, codes.flatten(1)[:, 0])
    require_equal(codes, kept, "codes after logits and steps")


def _places(prior: Any, codes: Tensor, context: Context) -> Iterator[tuple[int, Tensor]]:
    logits = prior.logits(codes, context).flatten(1, -2)
    return ((place, logits[:, place]) for place in range(prior.level.length))


@contextmanager
def _embedded(prior: nn.Module, codes: Tensor) -> Iterator[list[Tensor]]:
    """While this holds, embedded codes are constants that ask for a gradient; they are collected."""
    leaves: list[Tensor] = []
    flat = codes.flatten(1)

    def cut(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        places, left = divmod(inputs[0].numel(), len(flat))
        # with fewer places, as labels have, codes could be met by chance
        if left or places < flat.shape[1] - 1 or not torch.equal(inputs[0].reshape(len(flat), -1), flat[:, :places]):
            return output
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    handles = [part.register_forward_hook(cut) for part in prior.modules() if isinstance(part, nn.Embedding)]
    try:
        yield leaves
    finally:
        for handle in handles:
            handle.remove()
