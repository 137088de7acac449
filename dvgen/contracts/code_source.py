"""Properties C1 to C9: what a source of codes draws, and what it tells of their probability.

Shapes: n draws, *grid of a level.
"""

import math
from typing import Any

import torch
from torch import Tensor

from dvgen.contracts.data_subject import SourceSubject, all_draws
from dvgen.contracts.drawn_codes import require_codes, require_same_codes
from dvgen.contracts.frequencies import DEVIATIONS, DRAWS, flat, require_frequencies
from dvgen.contracts.law import law, require, require_close
from dvgen.contracts.model_subject import ROUNDING, Example
from dvgen.contracts.random_states import random_states_kept
from dvgen.interfaces.codes import Level
from dvgen.interfaces.data import CodeSource

SPLITS = ("train", "validation", "test")

SEEDS = (0, 1, 2**31, 2**62 + 3)
"""Seeds of draws that must differ; they have up to 63 bits, of which torch's generator on the CPU looks at 32."""

SURE = 30.0
"""Nats that draws must have together before it is an error that they are equal: by chance once in 10^13."""


@law("C1", "levels is a tuple of Levels with different names, at least one", once=True)
def levels_are_named(subject: SourceSubject, example: Example) -> None:
    levels = subject.source.levels
    right = isinstance(levels, tuple) and len(levels) >= 1 and all(isinstance(level, Level) for level in levels)
    require(right, f"levels is {levels!r}, expected a tuple of Levels")
    names = [level.name for level in levels]
    require(len(set(names)) == len(names), f"two levels have one name: {names}")


@law("C2", "sizes has the splits train, validation and test, each of at least one draw", once=True)
def sizes(subject: SourceSubject, example: Example) -> None:
    found = dict(subject.source.sizes)
    require(sorted(found) == sorted(SPLITS), f"sizes has {sorted(found)}, expected {sorted(SPLITS)}")
    right = all(isinstance(count, int) and count >= 1 for count in found.values())
    require(right, f"sizes is {found}, expected whole numbers of at least 1")


@law("C3", "draws are int64 (n, *grid), one tensor a level, 0 <= code < num_codes")
def codes(subject: SourceSubject, example: Example) -> None:
    source = subject.source
    require_codes(source.sample(example.batch, example.seed), source.levels, example.batch, "codes")


@law("C4", "draws are a function of config, number and seed alone: the same again, and of a source that is made anew")
def pure(subject: SourceSubject, example: Example) -> None:
    source = subject.source
    first = tuple(code.clone() for code in source.sample(example.batch, example.seed))
    source.sample(example.batch + 1, example.seed + 1)
    torch.manual_seed(example.seed + 2)
    require_same_codes(source.sample(example.batch, example.seed), first, "draws asked for again")
    require_same_codes(subject.made().sample(example.batch, example.seed), first, "draws of a source made anew")


@law("C4", "other seeds give other draws, and the draws of one seed differ", once=True)
def seeds_differ(subject: SourceSubject, example: Example) -> None:
    source = subject.source
    draws = {seed: source.sample(256, seed) for seed in SEEDS}
    nats = -source.log_prob(draws[SEEDS[0]])
    if float(nats.sum()) >= SURE:
        for one in SEEDS[1:]:
            same = torch.equal(flat(draws[SEEDS[0]]), flat(draws[one]))
            require(not same, f"256 draws of seed {SEEDS[0]} and of seed {one} are the same")
    if float(nats.min()) * (len(nats) - 1) >= SURE:
        rows = flat(draws[SEEDS[0]])
        require((rows != rows[:1]).any(), f"256 draws of seed {SEEDS[0]} are all the same")


@law("C4", "making a source, drawing and `log_prob` leave the global random states of torch, numpy and Python alone", once=True)
def keeps_random_state(subject: SourceSubject, example: Example) -> None:
    with random_states_kept("making the source"):
        source = subject.made()
    with random_states_kept("sample"):
        drawn = source.sample(3, 0)
    with random_states_kept("log_prob"):
        source.log_prob(drawn)


@law("C5", "log_prob is float64 (n,), finite for what was drawn and never above 0")
def log_probs(subject: SourceSubject, example: Example) -> None:
    found = subject.source.log_prob(subject.source.sample(example.batch, example.seed))
    require(found.dtype == torch.float64, f"log_prob is {found.dtype}, expected float64")
    require(tuple(found.shape) == (example.batch,), f"log_prob has shape {tuple(found.shape)}, expected {(example.batch,)}")
    require(found.isfinite().all(), "log_prob of something that was drawn is not finite")
    require((found <= 1e-12).all(), f"log_prob is {float(found.max()):.6g}, expected at most 0")


@law("C6", "the log_prob of a draw does not depend on the draws beside it, and no argument is written to")
def log_prob_is_pure(subject: SourceSubject, example: Example) -> None:
    source = subject.source
    drawn = source.sample(example.batch + 1, example.seed)
    kept = tuple(code.clone() for code in drawn)
    together = source.log_prob(drawn)
    require_same_codes(drawn, kept, "codes after log_prob")
    for i in range(len(together)):
        alone = source.log_prob(tuple(code[i : i + 1] for code in drawn))
        require_close(alone, together[i : i + 1], "log_prob of a draw alone, and among others", relative=ROUNDING)


@law("C7", "probabilities of all draws sum to 1 (of a config small enough)", applies=lambda s: s.small is not None, once=True)
def normalised(subject: SourceSubject, example: Example) -> None:
    total = float(_probabilities(_small(subject)).sum())
    require(abs(total - 1) <= ROUNDING, f"probabilities sum to {total:.12g}, expected 1; {_told(subject)}")


@law("C8", "frequencies of draws are the probabilities that `log_prob` tells (of a config small enough)",
     applies=lambda s: s.small is not None, once=True)  # fmt: skip
def frequencies(subject: SourceSubject, example: Example) -> None:
    source = _small(subject)
    require_frequencies(source.sample(DRAWS, 1), all_draws(source), _probabilities(source), f"frequencies; {_told(subject)}")


@law("C9", "`entropy`, where it is known, is that of one draw in nats: of the sum over all draws, and of the mean of -log_prob",
     once=True)  # fmt: skip
def entropy_is_mean(subject: SourceSubject, example: Example) -> None:
    """The mean of n draws is off by 6 standard errors once in 10^9."""
    small = subject.small
    if small is not None and small.entropy is not None:
        p = _probabilities(small)
        exact = -float(torch.special.xlogy(p, p).sum())
        off = abs(exact - small.entropy)
        told = f"entropy is {small.entropy:.9g}, but {exact:.9g} by all draws; {_told(subject)}"
        require(off <= ROUNDING * max(1.0, exact), told)
    source = subject.source
    if source.entropy is not None:
        nats = -source.log_prob(source.sample(DRAWS, 2))
        allowed = DEVIATIONS * float(nats.std()) / DRAWS**0.5 + ROUNDING * max(1.0, abs(source.entropy))
        mean = float(nats.mean())
        told = f"entropy is {source.entropy:.6g}, but the mean of -log_prob over {DRAWS} draws is {mean:.6g}"
        require(abs(mean - source.entropy) <= allowed, f"{told}, allowed {allowed:.3g}")


@law("C10", "`version` is a whole number from 1, `entropy` None or a number from 0 to what so many codes can have", once=True)
def described(subject: SourceSubject, example: Example) -> None:
    source: Any = subject.source
    right = isinstance(source.version, int) and source.version >= 1
    require(right, f"version is {source.version!r}, expected a whole number from 1")
    most = sum(level.length * math.log(level.num_codes) for level in source.levels)
    if source.entropy is not None:
        require(isinstance(source.entropy, float), f"entropy is a {type(source.entropy).__name__}, expected a float or None")
        inside = -ROUNDING <= source.entropy <= most * (1 + ROUNDING)
        require(inside, f"entropy is {source.entropy:.6g}, expected 0 to {most:.6g} nats")


def _small(subject: SourceSubject) -> CodeSource:
    found = subject.small
    if found is None:
        raise ValueError("no config of the source is small enough")
    return found


def _told(subject: SourceSubject) -> str:
    levels = ", ".join(f"{level.name} {level.grid} of {level.num_codes} codes" for level in _small(subject).levels)
    return f"tried on {levels}"


def _probabilities(source: CodeSource) -> Tensor:
    return source.log_prob(all_draws(source)).double().exp()
