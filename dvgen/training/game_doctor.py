"""The game doctor: whether the adversarial game is even, while it goes on; and what to change when it is not.

It reads scalars that the game computes anyway, adds them up on the device, and changes nothing. Like the codebook doctor it
is no part of a checkpoint: a resumed run starts new means, and may tell again what it told before.
"""

from collections.abc import Callable, Mapping
from typing import final

import torch
from torch import Tensor

from dvgen.training.adversarial import LARGEST
from dvgen.training.findings import Finding, Record

GRACE = 50
"""Steps of each player's own before it is judged."""

SURE = 0.98
"""An accuracy of the discriminator, in patches, from which it tells nearly all apart; its verdict then says little of how to
improve."""

WORSE = 1.3
"""How many times its value before the game the reconstruction loss may grow: some of it is given up for sharpness."""

BLIND = 0.55
"""An accuracy of the discriminator, in patches, down to which it does little better than guess."""

_EASE = "a lower adversarial.weight or adversarial.lr, or a longer adversarial.ramp"


@final
class GameDoctor:
    """Watches a game: `observe` every micro-batch, `report` at log steps and at the end."""

    def __init__(self, begin: int, start: int) -> None:
        self.begin, self.start = begin, start
        self.record = Record()
        self.before: float | None = None
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
        if step <= self.start and "reconstruction" in means:
            self.before = means["reconstruction"]
        findings = self._findings(step, means) if means else []
        return [str(finding) for finding in self.record.still(findings)] if finished else self.record.judge(findings)

    def _gather(self, total: Callable[[Tensor], Tensor]) -> dict[str, float]:
        names = sorted(self._sums)
        if not names:
            return {}
        sums = torch.stack([self._sums[name] for name in names])
        counts = torch.tensor([float(self._counts[name]) for name in names], device=sums.device)
        means = total(torch.stack([sums, counts]))
        self._sums, self._counts = {}, {}
        return dict(zip(names, (means[0] / means[1]).tolist(), strict=True))

    def _findings(self, step: int, means: Mapping[str, float]) -> list[Finding]:
        found = []
        playing = step >= self.start + GRACE
        if "discriminator_accuracy" in means and step >= self.begin + GRACE:
            found.append(_blind(means["discriminator_accuracy"]))
            if playing:  # before, nobody works against it, and it ought to be ahead
                found.append(_sure(means["discriminator_accuracy"]))
        if "adversarial_weight" in means:
            found.append(_weight(means["adversarial_weight"]))
            if self.before is not None and playing:
                found.append(_worse(self.before, means["reconstruction"]))
        return found


def _sure(accuracy: float) -> Finding:
    return Finding(
        kind="sure",
        where="adversarial game",
        severity=max(0.0, 1 - (1 - accuracy) / (1 - SURE) * 0.2) if accuracy < SURE else 1 + accuracy - SURE,
        sees=f"the discriminator tells {accuracy:.1%} of all patches apart: it is far ahead of the generator",
        change="a lower adversarial.lr, a smaller discriminator, or a later adversarial.begin",
        over=f"the discriminator is no longer far ahead (accuracy {accuracy:.1%})",
    )


def _blind(accuracy: float) -> Finding:
    return Finding(
        kind="blind",
        where="adversarial game",
        severity=(1 - accuracy) / (1 - BLIND),
        sees=f"the discriminator hardly tells real from reconstructed ({accuracy:.1%} of patches): the generator is ahead",
        change="a higher adversarial.lr, a lower adversarial.weight, a longer adversarial.ramp, an earlier adversarial.begin",
        over=f"the discriminator tells real from reconstructed again (accuracy {accuracy:.1%})",
    )


def _weight(weight: float) -> Finding:
    return Finding(
        kind="weight",
        where="adversarial game",
        severity=10 * weight / LARGEST,
        sees=f"the adaptive weight is {weight:.3g}: the discriminator gives hardly any gradient, and what it gives is blown up",
        change="adversarial.adaptive=false with a small adversarial.weight, or a lower adversarial.lr",
        over=f"the adaptive weight is {weight:.3g} again",
    )


def _worse(before: float, now: float) -> Finding:
    ratio = now / before if before > 0 else 1.0
    return Finding(
        kind="worse",
        where="adversarial game",
        severity=ratio / WORSE,
        sees=f"reconstruction has become worse since the game began: its loss went from {before:.4g} to {now:.4g}",
        change=f"{_EASE}; or a later adversarial.start",
        over=f"reconstruction is no longer much worse than before the game ({now:.4g}, then {before:.4g})",
    )
