"""Checks of trained models: each finds the bug that it is there for, in models made for it."""

from typing import Any

import component_mutants_prior as mutants
import pytest
import torch
from contract_toys import ToyPrior, ToyTable
from torch import Generator, Tensor

from dvgen.code_model import CodeModel
from dvgen.errors import Stopped
from dvgen.interfaces.codes import Codes, Level
from dvgen.interfaces.context import Context, ContextShape
from dvgen.interfaces.sampling import Sampling
from dvgen.verify.checks import Check
from dvgen.verify.trained import verify_context, verify_trained

LEVELS = (Level("top", (2, 2), 5), Level("bottom", (3, 4), 7))
CLASSES = 3
MAPS = 60


class Counts(ToyPrior):
    """Each step depends on how many there were: what is written cannot be read."""

    steps = 0

    def step(self, state: Any, previous: Tensor | None) -> Tensor:
        self.steps += 1
        return super().step(state, previous) + 0.01 * self.steps * torch.arange(self.level.num_codes)


class Costs(ToyPrior):
    """Tells `factor` times as many nats as it predicts codes with."""

    factor = 1.2

    def forward(self, codes: Codes, context: Context) -> tuple[Tensor, ...]:
        return tuple(self.factor * terms for terms in super().forward(codes, context))


class CostsLess(Costs):
    factor = 0.8


class Breaks(ToyPrior):
    def step(self, state: Any, previous: Tensor | None) -> Tensor:
        raise RuntimeError("out of places")


class NoLabels(ToyPrior):
    def surroundings(self, context: Context) -> Tensor:
        return super().surroundings(context.unconditional())


class Bound(ToyPrior):
    exact = False


def model(kind: type = ToyPrior, levels: tuple[Level, ...] = LEVELS, classes: int = CLASSES) -> CodeModel:
    """Toys with weights so large that the context tells a lot; `kind` for the last level, sound ones before."""
    torch.manual_seed(0)
    kinds = [*[ToyPrior] * (len(levels) - 1), kind]
    priors = []
    for i, (own, level) in enumerate(zip(kinds, levels, strict=True)):
        priors.append(own(own.tiny(), levels=(level,), context=ContextShape(levels[:i], classes)))
    made = CodeModel(priors).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(1.5)
    return made


def held_out(made: CodeModel, n: int = MAPS, *, labels: bool = True) -> tuple[Codes, Tensor | None]:
    """Codes that a sound model draws: as if it had been trained on them, without end."""
    given = torch.arange(n) % CLASSES if labels else None
    return made.sample([Generator().manual_seed(i) for i in range(n)], given, sampling=Sampling()), given


def checks(kind: type, maps: int = 40) -> tuple[Check, ...]:
    codes, labels = held_out(model())
    return verify_trained(model(kind), codes, labels, maps)


def test_a_sound_model_passes() -> None:
    codec, context = checks(ToyPrior)
    assert codec.passed
    assert codec.detail.startswith("40 maps 2x2 + 3x4: NLL ")
    assert codec.detail.endswith("decoded exactly")
    assert context.passed, context.detail
    assert "labels" in context.detail
    assert "coarser codes of bottom" in context.detail


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Counts, "decoded to OTHER codes"),
        (Costs, "decoded exactly"),
        (CostsLess, "decoded exactly"),
        (mutants.CacheForgets, "decoded exactly"),
        (Breaks, "RuntimeError: out of places"),
    ],
)
def test_codes_that_are_not_compressed_to_their_likelihood_or_not_read_again_fail(kind: type, told: str) -> None:
    codec = checks(kind)[0]
    assert codec.number == "6"
    assert codec.passed is False
    assert told in codec.detail


@pytest.mark.parametrize(("kind", "why"), [(Bound, "bound"), (ToyTable, "one code after the other")])
def test_codes_without_probabilities_one_after_the_other_have_no_codec(kind: type, why: str) -> None:
    codec = verify_trained(model(kind, LEVELS[:1]), (held_out(model())[0][0],), torch.arange(MAPS) % 3, 5)[0]
    assert codec.passed is None
    assert why in codec.detail


def test_no_maps_verify_nothing_and_a_model_is_left_as_it_was() -> None:
    codes, labels = held_out(model())
    made = model()
    assert verify_trained(made, codes, labels, 0) == ()
    verify_trained(made, codes, labels, 2)
    assert {p.dtype for p in made.parameters()} == {torch.float32}


def test_large_maps_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each code takes two steps of the model: 16 maps of 64 x 64 would take an hour of a large one."""
    monkeypatch.setattr("dvgen.verify.trained.CODES", 3 * 16)
    codec, context = checks(ToyPrior)
    assert codec.detail.startswith("3 maps 2x2 + 3x4: ")
    assert context.passed
    monkeypatch.setattr("dvgen.verify.trained.CODES", 1)
    assert checks(ToyPrior)[0].detail.startswith("1 maps")


def test_the_codec_can_be_stopped_and_that_is_no_fault_of_the_prior() -> None:
    codes, labels = held_out(model())

    def stop() -> None:
        raise Stopped("on request")

    with pytest.raises(Stopped):
        verify_trained(model(), codes, labels, 2, stop)


def test_the_only_code_of_a_codebook_needs_no_context() -> None:
    """Its probability is 1 whatever the context, which is not ignored for that."""
    alone = model(levels=(Level("top", (2, 2), 1),))
    assert verify_trained(alone, *held_out(alone), 5)[1].passed is None
    below = model(levels=(LEVELS[0], Level("bottom", (2, 2), 1)), classes=0)
    assert verify_trained(below, *held_out(below, labels=False), 5)[1].passed is None


@pytest.mark.parametrize("kind", [mutants.IgnoresTheLastCoarserLevel, mutants.BlindToPlaceAndContext])
def test_a_coarser_level_that_is_ignored_fails(kind: type) -> None:
    class Ignores(kind):  # type: ignore[misc]
        def surroundings(self, context: Context) -> Tensor:
            return ToyPrior.surroundings(self, context._replace(coarser=tuple(code * 0 for code in context.coarser)))

    context = checks(Ignores)[1]
    assert context.passed is False
    assert "they are ignored" in context.detail


def test_labels_that_are_ignored_fail() -> None:
    codes, labels = held_out(model(levels=LEVELS[:1]))
    assert verify_trained(model(NoLabels, LEVELS[:1]), codes, labels, 5)[1].passed is False
    assert verify_trained(model(levels=LEVELS[:1]), codes, labels, 5)[1].passed is True


def test_a_context_that_may_tell_nothing_is_no_fault_unless_it_must_help() -> None:
    """Codes of another model: labels change their probability, and make them no likelier."""
    codes, _ = held_out(model(levels=LEVELS[:1], classes=0), labels=False)
    labels = torch.randint(0, CLASSES, (MAPS,), generator=Generator().manual_seed(0))
    made = model(levels=LEVELS[:1])
    assert verify_context(made, codes, labels, must_help=False).passed is None
    assert verify_context(made, codes, labels, must_help=True).passed is False


def test_without_a_context_there_is_nothing_to_exchange() -> None:
    made = model(levels=LEVELS[:1], classes=0)
    codes, labels = held_out(made, labels=False)
    assert verify_context(made, codes, labels, must_help=True).passed is None
    alike = torch.zeros(MAPS, dtype=torch.int64)  # all of one class: exchanged, they are the same
    assert verify_context(model(levels=LEVELS[:1]), codes, alike, must_help=True).passed is None
