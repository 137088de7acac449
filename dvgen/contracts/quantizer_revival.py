"""Property P23: what happens to codes that are moved although nobody chose them.

Whether a quantizer revives codes is not declared: it is seen. The data stands still and leaves codes unused, so that averages
come to rest, and whatever moves without being chosen was placed anew.

Shapes: n features, d width, k codes.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from attrs import evolve
from torch import Tensor

from dvgen.contracts.law import law, require
from dvgen.contracts.quantizer_initialise import code_vectors, enumerable
from dvgen.contracts.quantizer_subject import SAMPLES, Example, Subject, as_map, run
from dvgen.contracts.quantizer_updates import updates
from dvgen.interfaces.quantizer import Quantizer

PATIENCE = 200
"""Updates within which a tiny config revives, if it ever does."""

BEFORE = 5
"""Updates in which all codes are used: averages that a revived code must not keep."""

AFTER = 5
"""Updates in a row without a revival, and without a code that comes nearer to the data, after which codes are at rest."""


class _Move(NamedTuple):
    """One update: places (k, d) before and after, which codes were used for it (k,), and how far apart the features are."""

    before: Tensor
    after: Tensor
    used: Tensor
    spread: float

    def revived(self) -> Tensor:
        """Codes that moved although nobody chose them (k,), and by more than averages do that decay towards nothing (P22)."""
        return ((self.before - self.after).abs() > self.spread / 10).any(dim=1) & ~self.used

    def usage(self) -> int:
        """How many codes were used for it."""
        return int(self.used.sum())


@law(
    "P23",
    "revived codes are apart, go to the data and stay; codes in use are left alone; usage does not fall",
    applies=lambda q: updates(q) and enumerable(q),
    once=True,
)
def revival(subject: Subject, example: Example) -> None:
    for scale, offset in ((1.0, 0.0), (1e-5, 0.0), (1.0, 300.0)):
        quantizer, rows = _settled_on_few(subject, Example(scale=scale, offset=offset, seed=example.seed))
        resting: _Move | None = None
        for move in _moves(quantizer, rows, PATIENCE):
            if move.revived().any():
                _check_used(resting, move, rows)
                _check_until_rest(move, quantizer, rows)
                break
            resting = move


def _check_used(resting: _Move | None, move: _Move, rows: Tensor) -> None:
    usual = 0.0 if resting is None else float((resting.after - resting.before)[resting.used].abs().max())
    own = float((move.after - move.before)[move.used].abs().max())
    allowed = usual + _rounding(rows)
    require(resting is None or own <= allowed, f"a used code moved by {own:.3g} in a revival, before by {usual:.3g}")


def _check_until_rest(first: _Move, quantizer: Quantizer, rows: Tensor) -> None:
    """A revival may take one update or many, as that of CVQ-VAE does, which takes a code a share of the way at each."""
    last, moved, arrived, quiet = first, first.revived(), torch.zeros_like(first.used), 0
    _check_places(first, rows)
    for move in _moves(quantizer, rows, PATIENCE):
        arrived |= moved & _among(last.after, rows)
        _check_places(move, rows)
        require(move.usage() >= first.usage(), f"{first.usage()} codes were used before the revival, {move.usage()} after")
        back = _drawn_back(last, move, rows)[last.revived()]
        require(not back.any(), "a revived code was drawn back to its old place by the next update")
        require(_among(move.after[arrived], rows).all(), "an update after the revival took the code out of the data")
        moved |= move.revived()
        quiet = 0 if (move.revived() | moved & _come_nearer(move, rows)).any() else quiet + 1
        if quiet == AFTER:
            require(_among(move.after[moved], rows).all(), "a revived code lies outside the data, and no longer moves")
            return
        last = move
    require(False, f"codes that nobody chose are still moved {PATIENCE} updates after the first of them was")


def _check_places(move: _Move, rows: Tensor) -> None:
    revived = move.revived()
    require(move.after.isfinite().all(), "a revived code is not finite")
    require(not revived.any() or len(move.after.unique(dim=0)) == len(move.after), "a revived code has the place of another")
    right = (_come_nearer(move, rows) | _among(move.after, rows))[revived]
    require(right.all(), "a revived code lies outside the data, and has come no nearer to it")


def _come_nearer(move: _Move, rows: Tensor) -> Tensor:
    """Codes (k,) that lie less far outside the data after an update than before it, and along no axis farther."""
    before, after = (_outside(places, rows).clamp(min=0) for places in (move.before, move.after))
    return (after <= before + _rounding(rows)).all(dim=1) & (after.sum(dim=1) < before.sum(dim=1))


def _drawn_back(revival: _Move, following: _Move, rows: Tensor) -> Tensor:
    """Codes (k,) that lie nearer to where they were before a revival than after it, and far from every feature."""
    places = following.after
    away = (places - revival.before).norm(dim=1) <= (places - revival.after).norm(dim=1)
    return away & (torch.cdist(places, rows).amin(dim=1) > following.spread)


def _settled_on_few(subject: Subject, example: Example) -> tuple[Quantizer, Tensor]:
    """A quantizer whose codes have all been used, and rows (n, d) so close to one of them that others no longer are."""
    quantizer = subject.prepared(evolve(example, updates=BEFORE, train=True))
    around = Example(scale=example.scale / 10, seed=example.seed).rows(SAMPLES, quantizer.dim)
    return quantizer, (code_vectors(quantizer)[:1] + around).float()


def _moves(quantizer: Quantizer, rows: Tensor, updates: int) -> Iterator[_Move]:
    for step in range(updates):
        before = code_vectors(quantizer)
        out = run(quantizer, as_map(rows), seed=step)
        used = torch.zeros(len(before), dtype=torch.bool)
        used[out.codes[0].reshape(-1)] = True
        quantizer.update(out.pending)
        yield _Move(before, code_vectors(quantizer), used, float(rows.std(dim=0).max()))


def _among(places: Tensor, rows: Tensor) -> Tensor:
    """Which of places (m, d) lie among the rows, (m,)."""
    return (_outside(places, rows) <= 0).all(dim=1)


def _outside(places: Tensor, rows: Tensor) -> Tensor:
    """How far places (m, d) lie outside the box of the rows, widened by half its own width: (m, d), positive if outside."""
    low, high = rows.amin(dim=0), rows.amax(dim=0)
    margin = (high - low) / 2
    return torch.maximum(places - (high + margin), (low - margin) - places)


def _rounding(rows: Tensor) -> float:
    return 1e-5 * float(rows.abs().max())
