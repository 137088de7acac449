"""What statistics of a codebook mean, and what to change: rules from numbers to a line for the person who trains.

A rule gives a severity, 1 at its threshold and more when worse; `findings.Record` decides when it is told.
"""

from collections.abc import Sequence
from itertools import pairwise

from attrs import frozen

from dvgen.training.findings import OVER, Finding
from dvgen.training.symptoms import Symptom

WINDOW = 10
"""Positions a code that are counted before use is judged: of codes used evenly, then all but one in 20 000 have occurred. Fewer
positions could not tell a code that is rare from one that is dead."""

REMEDIES = {
    "searched": (
        "--quantizer ema or cosine, which revive codes (sooner with a smaller quantizer.revive_after), simvq, fsq or projected"
    ),
    # 2000 steps on CIFAR-10: bsq used 94.7 % of 512 codes, lfq 25 %, and no more with four times the diversity; ibq went
    # from 61.5 % to all with ten times entropy_batch, and lost 1.3 dB
    "entropy": (
        "--quantizer bsq or ema; or a larger quantizer.entropy_batch (ibq), which brings codes into use at a cost in the images"
    ),
    "sampled": "a higher quantizer.kl, or --quantizer ema",
    "fixed": "a longer train.tokenizer.budget, or --quantizer ema",
}
"""What brings codes into use, by how a quantizer comes to its codes: the nearest of a table, pushed by a loss on the entropy of
all codes, drawn at random, or by a fixed rule."""

GROWTH = 5
"""Over how many log steps the length of the features is compared."""

# Not a lower lr: a codebook that learns by gradient falls back all the more. vq, 300 steps on 32x32 images: ratio 0.79 at
# lr 1e-3 and 1.09 at 2e-4; with commitment 2 instead of 0.25, 0.43 after 160 steps; ema, 0.04 after 200.
CLOSER = "a higher weight of the commitment, where it has one (quantizer.commitment); or --quantizer ema, whose codes follow"
"""What brings features and codes together."""


@frozen(kw_only=True)
class Use:
    """Use of a level's codes over so many positions. used: codes that occurred. unused: those that did not, in `since`."""

    num_codes: int
    positions: int
    used: int
    perplexity: float
    unused: int
    since: int

    @property
    def enough(self) -> bool:
        """Whether so many positions were counted that all codes could be expected."""
        return self.positions >= WINDOW * self.num_codes

    @property
    def reachable(self) -> float:
        """The share of codes that so many positions would use if all codes were equally frequent."""
        return 1 - (1 - 1 / self.num_codes) ** self.positions if self.num_codes > 1 else float(self.positions > 0)

    @property
    def collapse(self) -> float:
        """Severity of one code taking nearly all: perplexity under 2, and for few codes nearer to 1."""
        return min(2.0, 1 + self.num_codes / 16) / self.perplexity if self.num_codes > 1 else 0.0

    def __str__(self) -> str:
        text = f"{self.num_codes} codes, {self.used / self.num_codes:.1%} used, perplexity {self.perplexity:.1f}"
        if self.enough:
            return text
        return f"{text} (only {self.positions} positions were counted: {self.reachable:.1%} if all codes were used alike)"


@frozen(kw_only=True)
class Features:
    """A map's features beside the vectors that stand for them.

    ratio: mean square of their difference over the features' variance, the share that the codes do not explain. spread: the
    features' variance over their mean square. lengths: of the features, at the last log steps, oldest first. certified: as in
    `stats`, or None. deterministic, table: of the quantizer. remedy: of REMEDIES, for codes that are not in use.
    """

    ratio: float
    spread: float
    vector_norm: float
    lengths: Sequence[float]
    certified: float | None
    deterministic: bool
    table: bool
    remedy: str


def level_findings(where: str, use: Use, features: Features) -> list[Finding]:
    """Every finding of one level with its severity, the mild ones too; `where` names it."""
    told = (where, use, features)
    return [_collapse(*told), _unused(*told), _skew(*told)]


def map_findings(where: str, features: Features, *, collapsed: bool) -> list[Finding]:
    """Every finding of one map with its severity. A collapsed codebook explains nothing, so only the collapse is told then."""
    return [_runaway(where, features, collapsed), _away(where, features, collapsed), _uncertain(where, features)]


def _collapse(where: str, use: Use, features: Features) -> Finding:
    sees = f"collapsed: perplexity {use.perplexity:.2f} of {use.num_codes} codes"
    if features.spread < 0.01:
        sees += f", because the features are all alike (their variance is {features.spread:.2%} of their mean square)"
        change = (
            "a lower train.tokenizer.lr or a longer train.tokenizer.warmup, or a lower quantizer.commitment, where it has one"
        )
    else:
        sees += f", though the features differ (their variance is {features.spread:.0%} of their mean square)"
        change = REMEDIES[features.remedy]
    over = f"no longer collapsed: {use}"
    return Finding(
        kind="collapse",
        symptom=Symptom.FEW_CODES,
        where=where,
        severity=use.collapse,
        sees=sees,
        change=change,
        over=over,
    )


def _unused(where: str, use: Use, features: Features) -> Finding:
    """More than half of the codes are dead."""
    share = use.unused / use.num_codes if use.enough else 0.0
    sees = f"{use.unused} of {use.num_codes} codes did not occur in the last {use.since} positions"
    fewer = f"fewer codes ({'quantizer.num_codes=' if features.table else ''}{_power_of_two(use.num_codes - use.unused)})"
    change = f"{REMEDIES[features.remedy]}; or {fewer}"
    over = f"codes are in use again: {use}"
    severity = _unless(use.collapse >= OVER, share / 0.5)
    return Finding(
        kind="unused",
        symptom=Symptom.FEW_CODES,
        where=where,
        severity=severity,
        sees=sees,
        change=change,
        over=over,
    )


def _skew(where: str, use: Use, features: Features) -> Finding:
    """Half of the codes or more occur, but few of them do the work: perplexity under the square root of their number.

    Frequencies of 1/rank, which are common, stay above it at any number of codes.
    """
    judged = use.enough and use.collapse < OVER and 2 * use.used >= use.num_codes
    severity = use.used**0.5 / use.perplexity if judged else 0.0
    sees = f"{use.used} of {use.num_codes} codes occur, but as unevenly as if there were {use.perplexity:.1f}"
    change = f"{REMEDIES[features.remedy]}; or fewer codes, {_power_of_two(2 * round(use.perplexity))}"
    return Finding(
        kind="skew",
        symptom=Symptom.UNEVEN_CODES,
        where=where,
        severity=severity,
        sees=sees,
        change=change,
        over=f"codes are used more evenly: {use}",
    )


def _runaway(where: str, features: Features, collapsed: bool) -> Finding:
    """The features' length rose at every log step, doubled in all, and the codes do not follow."""
    lengths, severity = features.lengths, 0.0
    rising = all(one < other for one, other in pairwise(lengths))
    if len(lengths) > GROWTH and rising and features.ratio > 0.5:
        severity = _unless(collapsed, lengths[-1] / lengths[0] / 2)
    sees = (
        f"the features run away from their codes: their length went from {lengths[0]:.3g} to {lengths[-1]:.3g}, "
        f"that of the codes is {features.vector_norm:.3g}"
    )
    over = f"the features no longer run away from their codes (commitment ratio {features.ratio:.2f})"
    return Finding(
        kind="runaway",
        symptom=Symptom.FEATURES_RUN_AWAY,
        where=where,
        severity=severity,
        sees=sees,
        change=CLOSER,
        over=over,
    )


def _away(where: str, features: Features, collapsed: bool) -> Finding:
    """The codes are no better than the features' mean. What samples codes is measured against a mean vector, and may be."""
    sees = (
        f"the codes explain nothing of the features (commitment ratio {features.ratio:.2f}; length of the features "
        f"{features.lengths[-1]:.3g}, of their codes {features.vector_norm:.3g})"
    )
    over = f"the codes explain part of the features now (commitment ratio {features.ratio:.2f})"
    severity = _unless(collapsed, features.ratio) if features.deterministic else 0.0
    return Finding(
        kind="away",
        symptom=Symptom.FEATURES_RUN_AWAY,
        where=where,
        severity=severity,
        sees=sees,
        change=CLOSER,
        over=over,
    )


def _uncertain(where: str, features: Features) -> Finding:
    """Nine in ten features were looked up twice: right all the same, but slow."""
    certified = 1.0 if features.certified is None else features.certified
    sees = f"float32 could tell the nearest code of {certified:.1%} of them only; the others were searched again in float64"
    change = (
        "nothing if speed will do: in eager mode the codes are right; else quantizer=cosine or fsq, or float32 without TF32"
    )
    over = f"float32 tells the nearest code of {certified:.1%} again"
    return Finding(
        kind="uncertain",
        symptom=Symptom.SLOW_SEARCH,
        where=where,
        severity=(1 - certified) / 0.9,
        sees=sees,
        change=change,
        over=over,
    )


def _unless(worse: bool, severity: float) -> float:
    """The severity, held beside something worse where it is neither told nor over: saying that it is over would mislead."""
    return min(severity, (OVER + 1) / 2) if worse else severity


def _power_of_two(least: int) -> int:
    return 1 << max(1, least - 1).bit_length()
