"""Rule: a bug planted in a component that keeps its contract is found by the law that is there to find it."""

import component_mutants
import component_mutants_autoencoder
import component_mutants_prior
import component_mutants_samples
import component_mutants_signal
import pytest
from component_mutants import Bug, subject_of
from component_mutants_prior import MaskedCodesCost
from contract_toys import (
    ToyAdversarialLoss,
    ToyDecoder,
    ToyDiscriminator,
    ToyEncoder,
    ToyLoss,
    ToyPrior,
    ToyTable,
)

from dvgen.contracts.components import LAWS, AutoencoderSubject, Example, PriorSubject, broken_laws, laws_of
from dvgen.contracts.law import Broken, Law
from dvgen.contracts.model_subject import ModelSubject
from dvgen.contracts.pytest_components import prior_contract
from dvgen.errors import ConfigError

MODULES = (
    component_mutants,
    component_mutants_autoencoder,
    component_mutants_signal,
    component_mutants_prior,
    component_mutants_samples,
)

BUGS: tuple[Bug, ...] = tuple(
    value.bug for module in MODULES for value in vars(module).values() if isinstance(value, type) and "bug" in vars(value)
)

MODEL_LAWS = {law for subject, laws in LAWS.items() if issubclass(subject, ModelSubject) for law in laws}
"""Those of data sets, sources and features have mutants of their own."""

LAW_OF: dict[str, Law] = {f"{law.name} {law.check.__name__}": law for law in MODEL_LAWS}

EXAMPLES = tuple(Example(batch=batch, shape=i, seed=i // 2) for i, batch in enumerate((3, 1, 2, 3, 3)))
"""Shapes by turns, each contiguous and with channels that lie last in memory."""

TOYS = (ToyEncoder, ToyDiscriminator, ToyLoss, ToyAdversarialLoss, ToyPrior, ToyTable)


def found(kind: type, laws: tuple[Law, ...]) -> dict[str, str]:
    return broken_laws(subject_of(kind), EXAMPLES, laws)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.broken.__name__)
def test_the_law_that_is_there_for_it_finds_the_bug(bug: Bug) -> None:
    law = LAW_OF[bug.law]
    assert law in laws_of(subject_of(bug.broken))
    assert found(bug.broken, (law,)).get(bug.law, "nothing").startswith(tuple(f"{name}:" for name in bug.raises))


@pytest.mark.parametrize("toy", TOYS)
def test_no_law_finds_anything_where_no_bug_is(toy: type) -> None:
    assert found(toy, laws_of(subject_of(toy))) == {}


class ForWholesOnly(ToyEncoder):
    """Takes images of 20 pixels, which nobody offers it."""

    def grids(self, size: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        if size != (20, 20):
            raise ConfigError("encoder: takes images of 20x20 pixels")
        return super().grids(size)


def test_shapes_that_are_not_known_are_asked_for_and_may_be_given() -> None:
    with pytest.raises(ConfigError, match="give `shapes` it takes"):
        AutoencoderSubject(ForWholesOnly, ToyDecoder).fresh(Example())
    subject = AutoencoderSubject(ForWholesOnly, ToyDecoder, shapes=((1, 20, 20),))
    assert subject.outputs(subject.fresh(Example()).double(), *subject.inputs(Example()))["signals"].shape == (3, 1, 20, 20)
    with pytest.raises(ConfigError, match="give `situations` that it models"):
        PriorSubject(RefusesEverything).fresh(Example())


class RefusesEverything(ToyTable):
    """Models nothing."""

    def __init__(self, config: object, *, levels: object, context: object) -> None:
        raise ConfigError("refused")


def test_the_decorator_makes_a_test_of_every_law_and_runs_it() -> None:
    made = prior_contract(ToyPrior)(type("Made", (), {}))
    tests = {name: test for name, test in vars(made).items() if name.startswith("test_")}
    assert len(tests) == len(laws_of(PriorSubject(ToyPrior)))
    broken = prior_contract(MaskedCodesCost)(type("Made", (), {}))()
    broken.test_r1_terms()
    with pytest.raises(Broken, match="a masked code costs something"):
        broken.test_r2_masked()


def test_bugs_are_planted_for_every_law() -> None:
    assert {bug.law for bug in BUGS} == set(LAW_OF)
    assert len(MODEL_LAWS) == len(LAW_OF)
    assert all(bug.sound.__name__.startswith("Toy") for bug in BUGS)
