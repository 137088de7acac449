"""Checks of what a prior learns, and the command: codes are no likelier than they are, and every bug is told of."""

import copy
import json
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import torch
from component_mutants_samples import drawn
from contract_toys import ToyPrior
from test_verify_trained import LEVELS, model
from torch import Generator, Tensor

from dvgen import Component, hookimpl
from dvgen.cli.verify import verify
from dvgen.discovery import Plugins, discover
from dvgen.errors import ConfigError, IntegrityError
from dvgen.experiment import Training
from dvgen.interfaces.codes import Codes
from dvgen.interfaces.context import Context
from dvgen.interfaces.data import CodeSource
from dvgen.interfaces.sampling import Sampling
from dvgen.verify import short_training
from dvgen.verify.checks import Check
from dvgen.verify.short_training import SIZES, Trained, verify_excess


class ColdSamples(ToyPrior):
    def sample(
        self, context: Context, *, sampling: Sampling, generators: Sequence[Generator], given: Codes | None = None
    ) -> Codes:
        return drawn(self, context, attrs.evolve(sampling, temperature=0.5), generators, given)


class FromModel(CodeSource):
    """A source that a sound toy is: what it draws, and exactly how likely that is."""

    @attrs.frozen(kw_only=True)
    class Config:
        """Nothing to set."""

    levels = LEVELS[:1]
    sizes = SIZES

    def __init__(self, config: Any = None) -> None:
        self.model = model(levels=self.levels, classes=0)

    def sample(self, n: int, seed: int) -> Codes:
        generators = [Generator().manual_seed(seed % 2**31 + i) for i in range(n)]
        return self.model.sample(generators, sampling=Sampling())

    def log_prob(self, codes: Codes) -> Tensor:
        with torch.no_grad():
            terms = copy.deepcopy(self.model).double()(codes)
        return sum(own.flatten(1).sum(dim=1) for own in terms)


class OfTwoLevels(FromModel):
    levels = LEVELS


@hookimpl
def dvgen_components() -> list[Component]:
    """This file is a plugin too: `-p test_verify_learning`."""
    return [
        Component("code-source", "one-level", "test_verify_learning:FromModel", "a toy of one level"),
        Component("code-source", "two-levels", "test_verify_learning:OfTwoLevels", "a toy of two levels"),
    ]


def excess(kind: type) -> Check:
    codes = FromModel().sample(300, 0)
    return verify_excess(Trained(model(kind, LEVELS[:1], 0), FromModel(), codes, None))


def test_the_source_itself_has_no_excess_and_no_gap() -> None:
    found = excess(ToyPrior)
    assert found.passed
    assert "excess over the truth +0.0000 +- 0.0000" in found.detail or "-0.0000 +- 0.0000" in found.detail


def test_codes_that_are_likelier_than_they_can_be_fail() -> None:
    """A leak: each code is a little likelier because it was seen."""

    class Leaks(ToyPrior):
        def logits(self, codes: Tensor, context: Context) -> Tensor:
            return super().logits(codes, context) + 0.3 * torch.nn.functional.one_hot(codes, self.level.num_codes)

    assert excess(Leaks).passed is False


def test_samples_of_another_temperature_fail() -> None:
    assert excess(ColdSamples).passed is False


def run(*arguments: str) -> None:
    """`dvgen verify`, without the group around it, and with the toys."""

    def load() -> Plugins:
        return discover(("toy_components", "test_verify_learning"))

    verify.main(list(arguments), obj=load, standalone_mode=False)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings that take less than a second."""
    monkeypatch.setattr(short_training, "TWO_LEVELS", "two-levels")
    monkeypatch.setattr(short_training, "SIZES", {"train": 256, "validation": 2, "test": 64})
    monkeypatch.setattr(short_training, "MAPS", 3)
    monkeypatch.setattr(short_training, "SAMPLES", 16)
    monkeypatch.setattr(short_training, "TRAINING", Training(budget="steps:60", batch=16, lr=2e-2))


@pytest.mark.usefixtures("soon")
def test_a_prior_is_verified_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    run("gpt", "--source", "one-level", "--json")
    document = json.loads(capsys.readouterr().out)
    assert document["verified"] is True
    assert [check["number"] for check in document["checks"]] == ["1", "2", "2b", "3", "4", "5", "6", "7", "8", "8b"]
    assert {check["passed"] for check in document["checks"]} == {True}


@pytest.mark.usefixtures("soon")
def test_a_prior_of_somebody_else_that_cheats_is_told_of_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(IntegrityError, match=r"cheating: not verified: .* failed") as refused:
        run("cheating", "--source", "one-level")
    assert refused.value.exit_code == 4
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("FAIL  1 ") for line in lines)
    assert any(line.startswith("FAIL  7 ") for line in lines)
    assert any(line.startswith("-     3 ") for line in lines)


def test_unknown_names_are_refused_before_any_work() -> None:
    with pytest.raises(ConfigError, match="no prior named 'gtp'"):
        run("gtp")
    with pytest.raises(ConfigError, match="no code-source named 'markof'"):
        run("gpt", "--source", "markof")
