"""Properties R10 to R14: what a prior draws.

Shapes: b batch, *grid of a level.
"""

from typing import Any

import torch
from attrs import evolve
from torch import nn

from dvgen.contracts.drawn_codes import require_codes, require_same_codes
from dvgen.contracts.frequencies import DRAWS, require_frequencies
from dvgen.contracts.law import law, require, require_equal
from dvgen.contracts.model_subject import Example, sample_of
from dvgen.contracts.module_state import require_state, state_of
from dvgen.contracts.prior_subject import PriorSubject, every_map, generators, log_probability, repeated
from dvgen.interfaces.codes import MASKED, Codes
from dvgen.interfaces.context import Context
from dvgen.interfaces.sampling import Sampling


@law("R10", "samples are int64 (b, *grid) a level, in range, and a function of the generators alone")
def samples(subject: PriorSubject, example: Example) -> None:
    prior = subject.prepared(example)
    context = subject.inputs(example)[1]
    found = drawn(prior, context, example.seed)
    require_codes(found, subject.situation(example).levels, example.batch, "samples")
    before = torch.get_rng_state()
    torch.manual_seed(example.seed + 99)
    noise = torch.get_rng_state()
    require_same_codes(drawn(prior, context, example.seed), found, "samples of equal generators")
    require_equal(torch.get_rng_state(), noise, "torch's random state after sampling")
    torch.set_rng_state(before)


@law("R10", "sample i depends on its generator and context, not on the batch it is drawn in")
def neighbours(subject: PriorSubject, example: Example) -> None:
    prior = subject.prepared(example)
    context = subject.inputs(evolve(example, batch=3))[1]
    together = drawn(prior, context, example.seed)
    for i in range(3):
        (own,) = sample_of((context,), i)
        alone = prior.sample(own, sampling=Sampling(), generators=[generators(3, example.seed)[i]])
        require_same_codes(alone, tuple(code[i : i + 1] for code in together), "a sample alone, and in a batch")


@law("R11", "codes that are given are kept, and nothing given is as `given` left out")
def given(subject: PriorSubject, example: Example) -> None:
    prior = subject.prepared(example)
    codes, context = subject.inputs(example)
    free = tuple(torch.rand(code.shape, generator=example.generator(3)) < 0.5 for code in codes)
    some = tuple(code.masked_fill(where, MASKED) for code, where in zip(codes, free, strict=True))
    kept = tuple(code.clone() for code in some)
    found = drawn(prior, context, example.seed, given=some)
    for one, code, where in zip(found, codes, free, strict=True):
        require_equal(one[~where], code[~where], "codes that were given")
        require((one[where] >= 0).all(), "a free place was left masked")
    require_same_codes(some, kept, "`given` after sampling")
    require_same_codes(drawn(prior, context, example.seed, given=codes), codes, "samples of which everything was given")
    nothing = tuple(torch.full_like(code, MASKED) for code in codes)
    require_same_codes(
        drawn(prior, context, example.seed, given=nothing), drawn(prior, context, example.seed), "samples with nothing given"
    )


@law("R12", "frequencies of samples are the probabilities that `forward` tells",
     applies=lambda s: bool(s.spaces) and s.exact, once=True)  # fmt: skip
def frequencies(subject: PriorSubject, example: Example) -> None:
    for index in subject.spaces:
        here = evolve(example, batch=2, shape=index)
        prior, levels = subject.prepared(here), subject.situation(here).levels
        context = subject.inputs(here)[1]
        maps = every_map(levels)
        probabilities = log_probability(prior, maps, repeated(context, len(maps[0]), 1)).exp()
        found = drawn(prior, repeated(context, DRAWS, 1), seed=1)
        require_frequencies(found, maps, probabilities, str(levels))


@law("R13", "drawing is as in evaluation, nothing drops out, and leaves every training flag and all state as it was")
def training_flag(subject: PriorSubject, example: Example) -> None:
    prior = subject.prepared(example)
    for part in prior.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.5
    context = subject.inputs(example)[1]
    expected = drawn(prior, context, example.seed)
    prior.train()
    list(prior.modules())[-1].eval()  # frozen by whoever trains it
    flags, before = [part.training for part in prior.modules()], state_of(prior)
    require_same_codes(drawn(prior, context, example.seed), expected, "samples in training mode, and in evaluation")
    require([part.training for part in prior.modules()] == flags, "sampling changed a training flag")
    require_state(prior, before, "after sampling")


@law("R14", "guidance of 1 is none, and of 0 ignores the labels", applies=lambda s: bool(s.conditional))
def guidance(subject: PriorSubject, example: Example) -> None:
    here = evolve(example, shape=subject.conditional[example.shape % len(subject.conditional)])
    prior, context = subject.prepared(here), subject.inputs(here)[1]
    plain = drawn(prior, context, example.seed)
    require_same_codes(drawn(prior, context, example.seed, Sampling(guidance=1.0)), plain, "samples of guidance 1")
    without = drawn(prior, context.unconditional(), example.seed)
    require_same_codes(drawn(prior, context, example.seed, Sampling(guidance=0.0)), without, "samples of guidance 0")


@law("R14", "top_k = 1 draws at each free place the likeliest code given those before it",
     applies=lambda s: s.autoregressive)  # fmt: skip
@torch.no_grad()
def greedy(subject: PriorSubject, example: Example) -> None:
    prior = subject.prepared(example)
    context = subject.inputs(example)[1]
    (found,) = drawn(prior, context, example.seed, Sampling(top_k=1))
    require_equal(found, prior.logits(found, context).argmax(dim=-1), "samples of top_k = 1")


def drawn(prior: Any, context: Context, seed: int, sampling: Sampling | None = None, given: Codes | None = None) -> Codes:
    """Samples, their generators a function of `seed`."""
    found: Codes = prior.sample(
        context, sampling=sampling or Sampling(), generators=generators(context.batch, seed), given=given
    )
    return found
