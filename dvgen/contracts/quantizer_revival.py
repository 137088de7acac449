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
"""Updates watched after the first revival."""


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
    "revived codes are apart, among the data, and stay; codes in use are left alone; usage does not fall",
    applies=lambda q: updates(q) and enumerable(q),
    once=True,
)
def revival(subject: Subject, example: Example) -> None:
    for scale, offset in ((1.0, 0.0), (1e-5, 0.0), (1.0, 300.0)):
        quantizer, rows = _settled_on_few(subject, Example(scale=scale, offset=offset, seed=example.seed))
        resting: _Move | None = None
        for move in _moves(quantizer, rows, PATIENCE):
            if move.revived().any():
                _check_revival(resting, move, rows)
                _check_what_follows(move, list(_moves(quantizer, rows, AFTER)), rows)
                break
            resting = move


def _check_revival(resting: _Move | None, move: _Move, rows: Tensor) -> None:
    revived = move.revived()
    require(move.after.isfinite().all(), "a revived code is not finite")
    require(len(move.after.unique(dim=0)) == len(move.after), "a revived code has the place of another")
    require((_outside(move.after[revived], rows) <= 0).all(), "a revived code lies outside the data")
    rounding = 1e-5 * float(rows.abs().max())
    usual = 0.0 if resting is None else float((resting.after - resting.before)[resting.used].abs().max())
    own = float((move.after - move.before)[move.used].abs().max())
    require(resting is None or own <= usual + rounding, f"a used code moved by {own:.3g} in a revival, before by {usual:.3g}")


def _check_what_follows(revival: _Move, later: list[_Move], rows: Tensor) -> None:
    revived, following = revival.revived(), later[0]
    home = (following.after - revival.after)[revived].norm(dim=1)
    away = (following.after - revival.before)[revived].norm(dim=1)
    require((home < away).all(), "a revived code was drawn back to its old place by the next update")
    require((_outside(following.after[revived], rows) <= 0).all(), "the update after a revival took the code out of the data")
    require(not (following.revived() & revived).any(), "a code was revived again in the very next update")
    for move in later:
        require(move.usage() >= revival.usage(), f"{revival.usage()} codes were used before the revival, {move.usage()} after")


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


def _outside(places: Tensor, rows: Tensor) -> Tensor:
    """How far places (m, d) lie outside the box of the rows, widened by half its own width: (m, d), positive if outside."""
    low, high = rows.amin(dim=0), rows.amax(dim=0)
    margin = (high - low) / 2
    return torch.maximum(places - (high + margin), (low - margin) - places)
