"""Priors with one bug each in what they draw (R10 to R14)."""

from collections.abc import Sequence
from typing import Any

import attrs
import torch
from component_mutants import planted
from contract_toys import ToyPrior, ToyTable
from torch import Generator, Tensor

from dvgen.interfaces.codes import Codes
from dvgen.interfaces.context import Context
from dvgen.interfaces.prior import AutoregressivePrior
from dvgen.interfaces.sampling import Sampling


def drawn(
    prior: AutoregressivePrior, context: Context, sampling: Sampling, generators: Sequence[Generator], given: Codes | None
) -> Codes:
    """What AutoregressivePrior draws: a mutant of `sample` changes what it is asked for."""
    return AutoregressivePrior.sample(prior, context, sampling=sampling, generators=generators, given=given)


@planted("R10 samples")
class DrawsFromTheGlobalState(ToyPrior):
    def sample(
        self, context: Context, *, sampling: Sampling, generators: Sequence[Generator], given: Codes | None = None
    ) -> Codes:
        own = [Generator().manual_seed(int(torch.randint(2**31, ()))) for _ in generators]
        return drawn(self, context, sampling, own, given)


@planted("R10 samples")
class SamplesWithoutTheGrid(ToyPrior):
    def sample(
        self, context: Context, *, sampling: Sampling, generators: Sequence[Generator], given: Codes | None = None
    ) -> Codes:
        return (drawn(self, context, sampling, generators, given)[0].flatten(1).unsqueeze(1),)


@planted("R10 neighbours")
class OneGeneratorForAll(ToyPrior):
    def sample(
        self, context: Context, *, sampling: Sampling, generators: Sequence[Generator], given: Codes | None = None
    ) -> Codes:
        seeds = torch.randint(2**31, (len(generators),), generator=generators[0]).tolist()
        return drawn(self, context, sampling, [Generator().manual_seed(seed) for seed in seeds], given)


@planted("R10 neighbours")
class MeanOfTheBatch(ToyPrior):
    def step(self, state: dict[str, Any], previous: Tensor | None) -> Tensor:
        logits = super().step(state, previous)
        return 2 * logits - logits.mean(dim=0, keepdim=True)


@planted("R11 given")
class DrawsWhatIsGiven(ToyTable):
    def sample(
        self, context: Context, *, sampling: Sampling, generators: Sequence[Generator], given: Codes | None = None
    ) -> Codes:
        return super().sample(context, sampling=sampling, generators=generators)


@planted("R12 frequencies")
class SharpSamples(ToyPrior):
    def sample(
        self, context: Context, *, sampling: Sampling, generators: Sequence[Generator], given: Codes | None = None
    ) -> Codes:
        return drawn(self, context, attrs.evolve(sampling, temperature=0.7 * sampling.temperature), generators, given)


@planted("R12 frequencies")
class SameNumberForEveryPlace(ToyTable):  # each code is right, and the codes of a map go together
    def sample(
        self, context: Context, *, sampling: Sampling, generators: Sequence[Generator], given: Codes | None = None
    ) -> Codes:
        drawn = []
        for i, level in enumerate(self.levels):
            uniforms = torch.stack([torch.rand(1, generator=g, dtype=torch.float64) for g in generators])
            below = self.log_probs(i, context).exp().cumsum(dim=-1)[..., :-1] <= uniforms.unsqueeze(-1)
            drawn.append(below.sum(dim=-1).unflatten(1, level.grid))
        return tuple(drawn)


@planted("R13 training_flag")
class DropsOutWhileSampling(ToyPrior):
    def start(self, context: Context) -> dict[str, Any]:
        self.dropout.train()
        return super().start(context)


@planted("R13 training_flag")
class LeavesEvaluation(ToyPrior):
    def sample(
        self, context: Context, *, sampling: Sampling, generators: Sequence[Generator], given: Codes | None = None
    ) -> Codes:
        found = drawn(self, context, sampling, generators, given)
        self.eval()
        return found


@planted("R14 guidance")
class GuidanceTheOtherWay(ToyTable):
    def sample(
        self, context: Context, *, sampling: Sampling, generators: Sequence[Generator], given: Codes | None = None
    ) -> Codes:
        turned = attrs.evolve(sampling, guidance=abs(2 - sampling.guidance))
        return super().sample(context, sampling=turned, generators=generators, given=given)


@planted("R14 greedy")
class IgnoresTopK(ToyPrior):
    def sample(
        self, context: Context, *, sampling: Sampling, generators: Sequence[Generator], given: Codes | None = None
    ) -> Codes:
        return drawn(self, context, attrs.evolve(sampling, top_k=None), generators, given)
