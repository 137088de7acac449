"""The game doctor: whether the adversarial game is even, while it goes on; and what to change when it is not.

It reads scalars that the game computes anyway, adds them up on the device, and changes nothing. Like the codebook doctor it
is no part of a checkpoint: a resumed run starts new means, may tell again what it told before, and compares reconstruction
with the best that it has seen itself.
"""

import math
from collections.abc import Callable, Mapping
from typing import final

import torch
from torch import Tensor

from dvgen.training.adversarial import LARGEST
from dvgen.training.findings import Finding, Record
from dvgen.training.symptoms import Symptom

GRACE = 50
"""Steps of the game before it is judged."""

SURE = 0.98
"""An accuracy of the discriminator, in patches, from which it tells nearly all apart; its verdict then says little of how to
improve."""

WORSE = 1.3
"""How many times its best mean the reconstruction loss may grow: some of it is given up for sharpness."""

BLIND = 0.55
"""An accuracy of the discriminator, in patches, down to which it does little better than guess."""

WHERE = "adversarial game"
_EASE = "a lower adversarial.weight or adversarial.lr, or a longer adversarial.ramp"


@final
class GameDoctor:
    """Watches a game: `observe` every micro-batch, `report` at log steps and at the end."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.record = Record()
        self.best = math.inf
        self.findings: list[Finding] = []
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def observe(self, values: Mapping[str, Tensor]) -> None:
        """Add up the scalars of a micro-batch, waiting for nothing."""
        for name, value in values.items():
            kept = value.detach().float()
            self._sums[name] = self._sums[name] + kept if name in self._sums else kept
            self._counts[name] = self._counts.get(name, 0) + 1

    def report(self, step: int, total: Callable[[Tensor], Tensor], *, finished: bool) -> list[str]:
        """What to tell of the means since the last report; `total` sums a tensor over ranks."""
        means = self._gather(total)
        if means:
            self.best = min(self.best, means["reconstruction"])
            self.findings = self._judged(step, means)
        if not finished:
            return self.record.judge(self.findings) if means else []
        # the last log step may have emptied the means: then what it found is what holds
        return [str(finding) for finding in self.record.still([_unplayed(self.start, step), *self.findings])]

    def _gather(self, total: Callable[[Tensor], Tensor]) -> dict[str, float]:
        names = sorted(self._sums)
        if not names:
            return {}
        sums = torch.stack([self._sums[name] for name in names])
        counts = torch.tensor([float(self._counts[name]) for name in names], device=sums.device)
        means = total(torch.stack([sums, counts]))
        self._sums, self._counts = {}, {}
        return dict(zip(names, (means[0] / means[1]).tolist(), strict=True))

    def _judged(self, step: int, means: Mapping[str, float]) -> list[Finding]:
        """Only while both play: before, the discriminator ought to be ahead."""
        if step < self.start + GRACE or "adversarial_weight" not in means:
            return []
        accuracy, weight = means["discriminator_accuracy"], means["adversarial_weight"]
        return [_sure(accuracy), _blind(accuracy), _weight(weight), _worse(self.best, means["reconstruction"])]


def _unplayed(start: int, end: int) -> Finding:
    return Finding(
        kind="unplayed",
        symptom=Symptom.NO_GAME,
        where=WHERE,
        severity=float(end <= start),
        sees=(
            f"it never began: the discriminator's verdict counts from step {start} (adversarial.start), "
            f"and training ended at step {end}"
        ),
        change="an earlier adversarial.start, or a longer train.tokenizer.budget",
        over="it has begun",
    )


def _sure(accuracy: float) -> Finding:
    return Finding(
        kind="sure",
        symptom=Symptom.DISCRIMINATOR_WINS,
        where=WHERE,
        severity=max(0.0, 1 - (1 - accuracy) / (1 - SURE) * 0.2) if accuracy < SURE else 1 + accuracy - SURE,
        sees=f"the discriminator tells {accuracy:.1%} of all patches apart: it is far ahead of the generator",
        change="a lower adversarial.lr, a smaller discriminator, or a later adversarial.begin",
        over=f"the discriminator is no longer far ahead (accuracy {accuracy:.1%})",
    )


def _blind(accuracy: float) -> Finding:
    return Finding(
        kind="blind",
        symptom=Symptom.DISCRIMINATOR_LOSES,
        where=WHERE,
        severity=(1 - accuracy) / (1 - BLIND),
        sees=f"the discriminator hardly tells real from reconstructed ({accuracy:.1%} of patches): the generator is ahead",
        change="a higher adversarial.lr, a lower adversarial.weight, a longer adversarial.ramp, an earlier adversarial.begin",
        over=f"the discriminator tells real from reconstructed again (accuracy {accuracy:.1%})",
    )


def _weight(weight: float) -> Finding:
    return Finding(
        kind="weight",
        symptom=Symptom.ADAPTIVE_WEIGHT,
        where=WHERE,
        severity=10 * weight / LARGEST,
        sees=f"the adaptive weight is {weight:.3g}: the discriminator gives hardly any gradient, and what it gives is blown up",
        change="adversarial.adaptive=false with a small adversarial.weight, or a lower adversarial.lr",
        over=f"the adaptive weight is {weight:.3g} again",
    )


def _worse(best: float, now: float) -> Finding:
    ratio = now / best if best > 0 else 1.0
    return Finding(
        kind="worse",
        symptom=Symptom.RECONSTRUCTION_WORSE,
        where=WHERE,
        severity=ratio / WORSE,
        sees=f"reconstruction has become worse: its loss was {best:.4g}, and is {now:.4g}",
        change=f"{_EASE}; or a later adversarial.start",
        over=f"reconstruction is no longer much worse than at its best ({now:.4g} and {best:.4g})",
    )
