"""Rule: a code may be revived over many updates (P23): what is on its way to the data is excused, what never arrives is not.

CVQ-VAE (Zheng and Vedaldi, 2023) takes an unused code a share of the way at every update, the slower the longer its average.
"""

import sys

import attrs
import pytest
import torch
from doc_pages import ROOT
from quantizer_mutants_state import CirclesWithoutEnd
from torch import Tensor

from dvgen.contracts import quantizer_revival
from dvgen.contracts.law import Broken
from dvgen.contracts.quantizer import broken_laws
from dvgen.contracts.quantizer_revival import revival
from dvgen.contracts.quantizer_subject import Example, Subject
from dvgen_ema.quantizer import EMAQuantizer

sys.path.append(str(ROOT / "docs" / "example_plugins" / "dvgen-cvq"))

from dvgen_cvq.quantizer import CvqQuantizer


class Away(CvqQuantizer):
    """Goes away from the data as CVQ goes towards it."""

    def update(self, pending: dict[str, Tensor]) -> None:
        before = self.codebook.detach().clone()
        super().update(pending)
        with torch.no_grad():
            self.codebook.copy_(2 * before - self.codebook)


class Tires(CvqQuantizer):
    """Goes some of the way and no farther."""

    def update(self, pending: dict[str, Tensor]) -> None:
        idle = self.usage * self.config.num_codes < 0.02
        before = self.codebook.detach().clone()
        super().update(pending)
        with torch.no_grad():
            self.codebook.copy_(torch.where(idle.unsqueeze(1), before, self.codebook))


class Slow(EMAQuantizer):
    """Takes a code so small a share of the way that near the data no step is large."""

    def _revive(self, counts: Tensor, errors: Tensor, share: Tensor) -> None:
        dead = self.unused >= self.revive_after
        nearer = self.codebook.lerp(self.codebook[errors.argmax()], 0.015)
        for state, value in ((self.codebook, nearer), (self.counts, 0), (self.sums, 0)):
            state[dead] = value[dead] if isinstance(value, Tensor) else value


def subject(decay: float, kind: type[CvqQuantizer] = CvqQuantizer) -> Subject:
    return Subject(lambda: kind(attrs.evolve(CvqQuantizer.tiny(), decay=decay)))


def updates_of(made: Subject, most: int) -> list[int]:
    """In which updates some code moves though nobody chose it."""
    quantizer, rows = quantizer_revival._settled_on_few(made, Example())
    moves = quantizer_revival._moves(quantizer, rows, most)
    return [i for i, move in enumerate(moves) if move.revived().any()]


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("seed", [0, 1])
def test_cvq_keeps_it_at_every_decay(decay: float, seed: int) -> None:
    assert broken_laws(subject(decay), [Example(seed=seed)], [revival]) == {}


def test_the_law_looks_at_a_revival_of_several_updates() -> None:
    """Else the test above would say nothing."""
    assert len(updates_of(subject(0.0), 3)) >= 1
    assert len(updates_of(subject(0.9), quantizer_revival.PATIENCE)) >= 3


@pytest.mark.slow
def test_cvq_keeps_it_at_its_own_decay(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 0.99 a code moves after some 690 updates, longer than the law waits for a revival."""
    monkeypatch.setattr(quantizer_revival, "PATIENCE", 1000)
    assert len(updates_of(subject(0.99), 1000)) >= 20
    assert broken_laws(subject(0.99), [Example()], [revival]) == {}


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_what_goes_away_from_the_data_is_found(decay: float) -> None:
    with pytest.raises(Broken, match="has come no nearer to it"):
        revival.check(subject(decay, Away), Example())


def test_small_steps_to_the_data_are_steps() -> None:
    slow = Subject(lambda: Slow(EMAQuantizer.tiny()))
    assert broken_laws(slow, [Example()], [revival]) == {}


def test_what_never_comes_to_rest_is_found() -> None:
    with pytest.raises(Broken, match="are still moved 200 updates after the first of them was"):
        revival.check(Subject(lambda: CirclesWithoutEnd(EMAQuantizer.tiny())), Example())


def test_what_stops_on_the_way_is_found() -> None:
    with pytest.raises(Broken, match="lies outside the data, and no longer moves"):
        revival.check(subject(0.9, Tires), Example())
