"""The samples of every registered prior: as frequent as they are probable, apart from their batch, and complete."""

from typing import final

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from tiny_priors import (
    CODES,
    PRIORS,
    autoregressive,
    build,
    contexts,
    every_code,
    generators,
    log_probability,
    repeated,
    some_codes,
)
from torch import Generator, Tensor, nn

from dvgen.errors import ShapeError
from dvgen.interfaces.codes import MASKED, Level
from dvgen.interfaces.context import Context, ContextShape
from dvgen.interfaces.prior import AutoregressivePrior, evaluating
from dvgen.interfaces.sampling import Sampling


@pytest.fixture(params=PRIORS)
def name(request: pytest.FixtureRequest) -> str:
    """The name of a registered prior."""
    return str(request.param)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(guidance=1 + 1e-13)], ids=["plain", "guidance of one"])
def test_samples_are_as_frequent_as_their_probability(name: str, sampling: Sampling) -> None:
    """Chi-square over all maps. Guidance of (almost) one takes the guided path and must equal no guidance."""
    prior = build(name, (2, 2), conditional=True)
    if not prior.exact:
        pytest.skip("the probability is a bound")
    count, codes = 6000, every_code(prior.levels[0])
    context = repeated(contexts(prior, 1), count)
    (samples,) = prior.sample(context, sampling=sampling, generators=generators(count))
    expected = log_probability(prior, codes, repeated(context, len(codes))).exp().numpy() * count
    powers = CODES ** torch.arange(3, -1, -1)
    found = torch.bincount((samples.flatten(1) * powers).sum(dim=1), minlength=len(codes)).numpy()
    rare = expected < 5
    bins = [np.append(values[~rare], values[rare].sum() if rare.any() else []) for values in (found, expected)]
    assert len(bins[0]) > 10
    assert chisquare(bins[0], bins[1] * (count / bins[1].sum())).pvalue > 1e-6


def test_a_sample_depends_on_its_generator_and_not_on_its_batch(name: str) -> None:
    prior = build(name, (4, 4), conditional=True)
    context = contexts(prior, 6)
    (together,) = prior.sample(context, sampling=Sampling(), generators=generators(6))
    for i in range(6):
        alone = Context(1, tuple(c[i : i + 1] for c in context.coarser), context.labels[i : i + 1])  # type: ignore[index]
        (sample,) = prior.sample(alone, sampling=Sampling(), generators=generators(1, first=i))
        assert torch.equal(sample[0], together[i])
    assert len(together.flatten(1).unique(dim=0)) > 1


def test_samples_are_codes_of_the_level(name: str) -> None:
    prior = build(name, (3, 5), conditional=False, num_codes=7)
    (samples,) = prior.sample(Context(40), sampling=Sampling(temperature=3.0), generators=generators(40))
    assert samples.shape == (40, 3, 5)
    assert samples.dtype == torch.int64
    assert set(samples.unique().tolist()) == set(range(7))


def test_given_codes_are_kept_and_the_rest_is_drawn(name: str) -> None:
    prior = build(name, (4, 4), conditional=True)
    context, given = contexts(prior, 8), some_codes(prior, 8, seed=5)
    free = torch.rand(8, 4, 4, generator=Generator().manual_seed(1)) < 0.5
    (completed,) = prior.sample(
        context, sampling=Sampling(), generators=generators(8), given=(given.masked_fill(free, MASKED),)
    )
    assert torch.equal(completed[~free], given[~free])
    assert completed.min() >= 0
    assert (completed[free] != given[free]).any()


def test_completing_a_sample_from_a_part_of_itself_repeats_it(name: str) -> None:
    """Given codes condition what follows, and every free position keeps its own random number."""
    prior = autoregressive(build(name, (4, 4), conditional=True))
    context = contexts(prior, 8)
    (sample,) = prior.sample(context, sampling=Sampling(), generators=generators(8))
    part = sample.masked_fill(torch.rand(8, 4, 4, generator=Generator().manual_seed(1)) < 0.5, MASKED)
    (again,) = prior.sample(context, sampling=Sampling(), generators=generators(8), given=(part,))
    assert torch.equal(again, sample)


@pytest.mark.parametrize("sampling", [Sampling(top_k=1), Sampling(top_p=1e-9), Sampling(temperature=1e-9)], ids=str)
def test_the_narrowest_sampling_is_greedy(name: str, sampling: Sampling) -> None:
    prior = autoregressive(build(name, (3, 5), conditional=True))
    context = contexts(prior, 6)
    greedy = torch.zeros(6, 15, dtype=torch.int64)
    for position in range(15):
        with torch.no_grad():
            greedy[:, position] = prior.logits(greedy.unflatten(1, (3, 5)), context).flatten(1, -2)[:, position].argmax(-1)
    (samples,) = prior.sample(context, sampling=sampling, generators=generators(6))
    assert torch.equal(samples.flatten(1), greedy)


def test_guidance_extrapolates_from_the_logits_without_a_label(name: str) -> None:
    prior = autoregressive(build(name, (3, 5), conditional=True))
    context = contexts(prior, 6)
    (samples,) = prior.sample(context, sampling=Sampling(guidance=2.5, top_k=1), generators=generators(6))
    with torch.no_grad():
        labelled = prior.logits(samples, context)
        unlabelled = prior.logits(samples, context.unconditional())
    assert torch.equal((2.5 * labelled - 1.5 * unlabelled).argmax(-1), samples)
    (blind,) = prior.sample(context, sampling=Sampling(guidance=0.0), generators=generators(6))
    (without,) = prior.sample(context.unconditional(), sampling=Sampling(), generators=generators(6))
    assert torch.equal(blind, without)


def test_sampling_is_evaluation_and_leaves_the_training_flags_alone(name: str) -> None:
    prior = build(name, (4, 4), conditional=True)
    context = contexts(prior, 4)
    (expected,) = prior.sample(context, sampling=Sampling(), generators=generators(4))
    prior.train()
    next(prior.children()).eval()
    flags = [module.training for module in prior.modules()]
    (sample,) = prior.sample(context, sampling=Sampling(), generators=generators(4))
    assert torch.equal(sample, expected)
    assert [module.training for module in prior.modules()] == flags
    assert len(set(flags)) == 2


@final
class Dropping(AutoregressivePrior):
    """One position whose dropout, where it acts, silences the only likely code."""

    def __init__(self) -> None:
        super().__init__(levels=(Level("level", (1,), 2),), context=ContextShape())
        self.likely = nn.Parameter(torch.tensor([0.0, 100.0]))
        self.dropout = nn.Dropout(0.5)

    def logits(self, codes: Tensor, context: Context) -> Tensor:
        return self.dropout(self.likely.expand(*codes.shape, 2))

    def start(self, context: Context) -> int:
        return context.batch

    def step(self, state: int, previous: Tensor | None) -> Tensor:
        return self.dropout(self.likely.expand(state, 2))


def test_sampling_switches_dropout_off_and_back_on() -> None:
    prior = Dropping().train()
    (samples,) = prior.sample(Context(64), sampling=Sampling(), generators=generators(64))
    assert samples.all()
    assert prior.dropout.training


def test_training_flags_come_back_after_an_error() -> None:
    prior = Dropping().train()
    with pytest.raises(ZeroDivisionError), evaluating(prior):
        raise ZeroDivisionError
    assert prior.dropout.training


def test_sampling_refuses_what_does_not_match_the_batch(name: str) -> None:
    prior = build(name, (2, 2), conditional=False)
    with pytest.raises(ShapeError, match="expected 3, got 2"):
        prior.sample(Context(3), sampling=Sampling(), generators=generators(2))
    for given in (torch.zeros(2, 4), torch.full((2, 2, 2), CODES), torch.zeros(3, 2, 2)):
        with pytest.raises(ShapeError):
            prior.sample(Context(2), sampling=Sampling(), generators=generators(2), given=(given.long(),))
