"""Rule: a bug planted in a quantizer that keeps the contract is found by the law that is there to find it."""

import pytest
import quantizer_mutants
import quantizer_mutants_gradients
import quantizer_mutants_state
import quantizer_mutants_structure
import quantizer_mutants_systems
import torch
from quantizer_mutants import Bug

from dvgen.contracts.law import Law
from dvgen.contracts.quantizer import LAWS, broken_laws
from dvgen.contracts.quantizer_subject import Example, Subject
from dvgen.interfaces.quantizer import Quantizer

MODULES = (
    quantizer_mutants,
    quantizer_mutants_gradients,
    quantizer_mutants_state,
    quantizer_mutants_structure,
    quantizer_mutants_systems,
)

BUGS: tuple[Bug, ...] = tuple(
    value.bug for module in MODULES for value in vars(module).values() if isinstance(value, type) and "bug" in vars(value)
)

LAW_OF: dict[str, Law] = {f"{law.name} {law.check.__name__}": law for law in LAWS}

EXAMPLES = (
    Example(),
    Example(updates=0, train=False),
    Example(mask="some", scale=1e-5, offset=1e4, junk=2),
    Example(mask="all", updates=2),
    Example(batch=0),
    Example(grid=(4,), scale=1e-12, dtype=torch.bfloat16),
    Example(mask="some", offset=300.0, dtype=torch.float16),
    Example(batch=4, grid=(4, 8), offset=1e4),
    Example(grid=(2, 2, 2), scale=1e6, dtype=torch.float64, train=False),
)
"""Modes, masks, scales, offsets and dtypes: with features of unit scale and no mask, half of the bugs do not show."""


def marked(bug: Bug) -> object:
    return pytest.param(bug, id=bug.broken.__name__, marks=[pytest.mark.slow] if LAW_OF[bug.law].slow else [])


def found(bug: Bug, kind: type[Quantizer]) -> dict[str, str]:
    return broken_laws(Subject(lambda: bug.made(kind)), EXAMPLES, [LAW_OF[bug.law]])


@pytest.mark.parametrize("bug", [marked(bug) for bug in BUGS])
def test_the_law_that_is_there_for_it_finds_the_bug(bug: Bug) -> None:
    assert LAW_OF[bug.law].applies(bug.made(bug.broken))
    assert found(bug, bug.broken).get(bug.law, "nothing").startswith(tuple(f"{name}:" for name in bug.raises))


@pytest.mark.parametrize("bug", [marked(bug) for bug in BUGS])
def test_it_finds_nothing_where_the_bug_is_not(bug: Bug) -> None:
    # a law about what is declared is not about the quantizer that declares the truth
    declares = "traits" in vars(bug.broken)
    assert LAW_OF[bug.law].applies(bug.made(bug.sound)) is not declares
    assert declares or found(bug, bug.sound) == {}


def test_bugs_are_planted_for_every_law() -> None:
    assert len(BUGS) >= 14
    assert len(LAW_OF) == len(LAWS)
    assert {bug.law for bug in BUGS} == set(LAW_OF)
