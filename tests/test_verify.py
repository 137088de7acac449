"""Every check of a prior's class passes where there is no bug, and finds the bug that it is there for."""

import functools
from typing import Any

import component_mutants_prior as values
import component_mutants_samples as samples
import pytest
import torch
from contract_toys import ToyPrior, ToyTable
from torch import Tensor
from torch.nn import functional as F

from dvgen.blocks.conditioning import check_context
from dvgen.contracts.components import LAWS, PriorSubject
from dvgen.discovery import discover
from dvgen.errors import ConfigError, DataError
from dvgen.experiment import PriorChoice
from dvgen.interfaces.context import Context
from dvgen.registry import Component, Registry, Supplied
from dvgen.verify.checks import Check, Verification
from dvgen.verify.prior import CLAIMS, verify_component
from dvgen_gpt.prior import GPT


class MaskOffByOne(ToyPrior):
    """The sum of the codes so far has the code itself in it."""

    def logits(self, codes: Tensor, context: Context) -> Tensor:
        check_context(context, self.context, len(codes))
        before = (self.codes(codes.flatten(1)) * self.places).cumsum(dim=1)
        return self._head(before + self.places + self.surroundings(context).unsqueeze(1)).unflatten(1, self.level.grid)


class NoBeginShift(GPT):  # type: ignore[misc]
    """Place i is shown code i, where it should be shown code i - 1, and the first place the start vector."""

    def logits(self, codes: Tensor, context: Context) -> Tensor:
        return super().logits(codes.flatten(1).roll(-1, dims=1).view_as(codes), context)


class CachePosition(GPT):  # type: ignore[misc]
    """By step, every place has the position before its own."""

    def start(self, context: Context) -> Any:
        state = super().start(context)
        state.places = state.places.roll(1, dims=1)
        return state


class DropsOutInEvaluation(ToyPrior):
    def logits(self, codes: Tensor, context: Context) -> Tensor:
        return F.dropout(super().logits(codes, context), 0.2)


class DeadInput(ToyPrior):
    """Codes are as likely as their places say, whatever came before."""

    def logits(self, codes: Tensor, context: Context) -> Tensor:
        return super().logits(torch.zeros_like(codes), context)

    def step(self, state: Any, previous: Tensor | None) -> Tensor:
        return super().step(state, None if previous is None else torch.zeros_like(previous))


class ModelsNothing(ToyTable):
    def __init__(self, config: Any, *, levels: Any, context: Any) -> None:
        raise ConfigError("takes codes of 20x20")


BUGS = [
    ("1", values.SharpLikelihood),
    ("1", values.BoundThatIsNone),
    ("1", MaskOffByOne),
    ("1", NoBeginShift),
    ("2", MaskOffByOne),
    ("2", values.SmallLeak),
    ("2b", MaskOffByOne),
    ("2b", NoBeginShift),
    ("2b", values.SeesTheCodeItPredicts),
    ("2b", DeadInput),
    ("2b", values.BlindToTheFirstCode),
    ("3", NoBeginShift),
    ("3", CachePosition),
    ("3", values.CacheForgets),
    ("3", values.PlacesOffByOne),
    ("3", values.StateOnTheModel),
    ("4", NoBeginShift),
    ("4", CachePosition),
    ("4", samples.SharpSamples),
    ("4", samples.SameNumberForEveryPlace),
    ("5", values.SoftmaxOverPlaces),
    ("5", values.FirstCodeIsFree),
    ("5", values.FirstOfTheBatchIsSpecial),
    ("5", values.TermsInHalfPrecision),
    ("5", samples.MeanOfTheBatch),
    ("5", samples.DropsOutWhileSampling),
    ("5", DropsOutInEvaluation),
    ("8", values.IgnoresLabels),
    ("8", values.UnknownIsTheFirstLabel),
    ("8", values.IgnoresTheLastCoarserLevel),
]


@functools.cache
def of(kind: type) -> Verification:
    """The verification of a class, through a registry that has nothing else."""
    component = Component("prior", "one", f"{kind.__module__}:{kind.__name__}", "a prior")
    return Verification(verify_component(Registry([Supplied(component, "test", "test")]), PriorChoice(use="one")))


@pytest.mark.parametrize(("number", "kind"), BUGS, ids=[f"{number}-{kind.__name__}" for number, kind in BUGS])
def test_each_check_finds_the_bugs_that_it_is_there_for(number: str, kind: type) -> None:
    (claim,) = (claim for claim in CLAIMS if claim.number == number)
    found = claim.check(PriorSubject(kind))
    assert found.passed is False
    assert found.detail.startswith("R") or found.detail.startswith("M")


@pytest.mark.parametrize("kind", [ToyPrior, GPT])
def test_every_check_passes_where_there_is_no_bug(kind: type) -> None:
    found = of(kind)
    assert {check.number: check.passed for check in found.checks} == dict.fromkeys(("1", "2", "2b", "3", "4", "5", "8"), True)
    assert found.verified


def test_a_prior_with_a_bug_is_not_verified_and_says_why() -> None:
    found = of(MaskOffByOne)
    assert not found.verified
    assert "R7 causal_by_edit: Broken: the code at place 0 changes the logits of places [0]" in found.faults[2].detail
    assert found.faults[2].line.startswith("FAIL  2b  an edited code")


@pytest.mark.parametrize("name", discover().registry.names("prior"))
def test_every_registered_prior_is_verified(name: str) -> None:
    assert of(discover().registry.load("prior", name)).verified


def test_checks_that_say_nothing_of_a_prior_give_the_reason() -> None:
    """Not autoregressive: no order to be checked. A bound: no frequencies. Both can be verified all the same."""
    table, bound = of(ToyTable), of(discover().registry.load("prior", "masked"))
    assert {check.number for check in table.checks if check.passed is None} == {"2", "2b", "3"}
    assert {check.number for check in bound.checks if check.passed is None} == {"2", "2b", "3", "4"}
    assert all("bound" in check.detail or "one code after the other" in check.detail for check in bound.checks
               if check.passed is None)  # fmt: skip
    assert table.verified
    assert bound.verified


def test_a_prior_that_could_not_be_tried_is_not_verified() -> None:
    found = of(ModelsNothing)
    assert {check.passed for check in found.checks} == {None}
    assert "give `situations` that it models" in found.checks[0].detail
    assert not found.verified


def test_fields_of_the_choice_do_not_count() -> None:
    """What is enumerated is the tiny config; one of thousands of millions of parameters would not even fit into memory."""
    large = PriorChoice(use="gpt", fields={"layers": 480, "dim": 40960})
    assert verify_component(discover().registry, large) == of(GPT).checks


def test_checks_are_made_of_laws_of_the_contract_alone() -> None:
    assert {law for claim in CLAIMS for law in claim.laws} <= set(LAWS[PriorSubject])


def test_a_verification_goes_through_a_table_and_back() -> None:
    found = Verification((Check("1", "one", True, "0.1"), Check("5", "five", True, "0"), Check("6", "six", None, "a bound")))
    assert found.to_dict()["verified"] is True
    assert found.to_dict()["checks"][2] == {"number": "6", "name": "six", "passed": None, "detail": "a bound"}
    assert Verification.from_dict(found.to_dict()) == found
    assert not Verification((*found.checks, Check("6", "six", False, "x"))).verified
    assert not Verification(found.checks[:1]).verified
    assert not Verification(()).verified
    reasons = [Verification(checks).why_not for checks in (found.checks, (*found.checks, Check("6", "six", False, "x")))]
    reasons += [Verification(checks).why_not for checks in (found.checks[:1], ())]
    assert reasons == [
        "",
        "not verified: check 6",
        "not verified: check 5 does not apply",
        "not verified: evaluate.maps is 0",
    ]


@pytest.mark.parametrize(
    "table",
    [{}, {"checks": None}, {"checks": [{"number": "1"}]}, {"checks": [{"number": 1, "name": "", "passed": 1, "detail": ""}]}],
)
def test_a_table_of_something_else_is_refused(table: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="expected what dvgen wrote"):
        Verification.from_dict(table)
