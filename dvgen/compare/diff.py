"""What has changed between two comparisons: every value that both have, measured in one way, and how sure its difference is.

Rows on the same codes, with as many repeats, whose likelihoods of every image are known, are paired by image and repeat. All
else is taken for independent, and the ends of the two intervals are combined by Zou and Donner's (2008) method of variance
estimates recovery, which asks for no symmetry; of values of the same images that is too wide rather than too narrow.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, frozen
from scipy.special import stdtr, stdtrit

from dvgen.compare.pairing import Entry, Floats, Group, match_entries, match_groups, open_groups
from dvgen.compare.verdicts import SURE
from dvgen.errors import IncomparableError, IntegrityError
from dvgen.evaluation.measurement import Interval, Measurement, difference
from dvgen.evaluation.statistics import holm, paired

_HASH, _BEGINNING = re.compile(r"\b([0-9a-f]{8})[0-9a-f]{56}\b"), r"\1"
"""Whole hashes are in the keys; a person is shown their beginning, as in the table."""
LIKELIHOODS = ("nll", "bits_code", "bits_image", "code_rate")
"""Measurements that are proportional to the mean of the nats of every image; also of one level, as in nll/top."""


@frozen
class Change:
    """One value of both, measured in one way.

    difference: b - a. interval, p: of the difference, p two-sided against none; None where one of them has no interval.
    pairing: "images" or "independent". p_holm: adjusted within this measurement of all entries of the kind.
    verdict: of b, "better" or "worse" where p_holm is below 0.05, "tie"; "equal" for one and the same number, "unsure" for
    others without an interval.
    """

    group: str
    entry: Entry
    name: str
    a: Measurement
    b: Measurement
    difference: float
    interval: Interval | None
    p: float | None
    pairing: str
    p_holm: float | None = None
    verdict: str = "unsure"

    def to_dict(self) -> dict[str, Any]:
        """Plain tables and numbers."""
        place = {"group": self.group, "kind": self.entry.kind, "name": self.entry.name, "budget": self.entry.budget}
        found = {"a": self.a.to_dict(), "b": self.b.to_dict(), "difference": self.difference, "p": self.p}
        told = {"p_holm": self.p_holm, "pairing": self.pairing, "verdict": self.verdict}
        return place | {"metric": self.name} | found | told | {"interval": self.interval and list(self.interval)}


@frozen
class Refused:
    """One value of both that was not measured in one way; differences: in what the keys differ."""

    group: str
    entry: Entry
    name: str
    differences: tuple[str, ...]


@frozen
class Difference:
    """Everything that two documents have in common, what of it was measured in two ways, and what only one of them has."""

    changes: Sequence[Change]
    refused: Sequence[Refused]
    only_a: Sequence[str]
    only_b: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain tables, lists and numbers."""
        return {
            "schema": 1,
            "changes": [change.to_dict() for change in self.changes],
            "incomparable": told(self.refused),
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
        }


def diff(a: Path, b: Path, *, common: bool) -> Difference:
    """What has changed from a to b: folders of comparisons or of runs, or their results.json.

    Raises IncomparableError when something of both was measured in two ways and not only the common is asked for, or when
    there is nothing to compare; and as `read_results` does.
    """
    found = _difference(open_groups(a), open_groups(b))
    if found.refused and not common:
        raise IncomparableError("\n".join([*told(found.refused), "--common compares what was measured in one way"]))
    if not found.changes:
        raise IncomparableError(f"{a} and {b} have nothing in common that was measured in one way: nothing to compare")
    return found


def told(refused: Sequence[Refused]) -> list[str]:
    """One text for all values of a kind whose keys differ in the same things."""
    together: dict[tuple[str, tuple[str, ...]], list[Refused]] = {}
    for one in refused:
        together.setdefault((one.entry.kind, one.differences), []).append(one)
    return [
        f"{_few([one.name for one in ones])} of {kind} {_few([one.entry.label for one in ones])}: measured differently "
        f"({_HASH.sub(_BEGINNING, '; '.join(reason))})"
        for (kind, reason), ones in together.items()
    ]


def _few(names: Sequence[str], most: int = 4) -> str:
    """The first of different names, and how many more."""
    different = list(dict.fromkeys(names))
    more = [f"{len(different) - most} more"] if len(different) > most else []
    return ", ".join([*different[:most], *more])


def _difference(a: Sequence[Group], b: Sequence[Group]) -> Difference:
    groups, *rest = match_groups(a, b)
    only = [[group.label for group in side] for side in rest]
    changes: list[Change] = []
    refused: list[Refused] = []
    for one, other in groups:
        entries, *left = match_entries(one, other)
        label = one.label if one.label == other.label else f"{one.label} / {other.label}"
        for texts, side in zip(only, left, strict=True):
            texts += [f"{entry.kind} {entry.label}, of {label}" for entry in side]
        for mine, its in entries:
            for texts, (has, lacks) in zip(only, ((mine, its), (its, mine)), strict=True):
                names = sorted(has.measurements.keys() - lacks.measurements.keys())
                texts += [f"{_few(names)} of {has.label}, of {label}"] if names else []
            found, unequal = _changes(label, one, mine, its)
            changes += found
            refused += unequal
    return Difference(_judged(changes), refused, *only)


def _changes(label: str, group: Group, a: Entry, b: Entry) -> tuple[list[Change], list[Refused]]:
    """Every measurement that two entries have: how it has changed, or why that cannot be said."""
    changes, refused = [], []
    for name, mine in a.measurements.items():
        if name not in b.measurements:
            continue
        its = b.measurements[name]
        if mine.key != its.key:
            refused.append(Refused(label, a, name, tuple(mine.key.differences(its.key))))
            continue
        gap = difference(its, mine)
        by_image = _by_image(name, group, a, b)
        if by_image is None:
            interval = _combined(mine, its)
            p = None if interval is None else _p(gap, interval, min(_freedom(a, mine), _freedom(b, its)))
        else:
            interval, p = by_image
        changes.append(Change(label, a, name, mine, its, gap, interval, p, "independent" if by_image is None else "images"))
    return changes, refused


def _by_image(name: str, group: Group, a: Entry, b: Entry) -> tuple[Interval | None, float] | None:
    """The interval of a likelihood's difference, paired by image and repeat, and its p; None where they cannot be paired.

    Raises IntegrityError when the likelihoods of images are not those of the results.
    """
    kind, _, level = name.partition("/")
    excess = kind == "excess" and group.about["kind"] == "truth"  # the truth is the same of both and cancels
    if a.nats is None or b.nats is None or a.nats.shape != b.nats.shape or not (kind in LIKELIHOODS or excess):
        return None
    names = [entry["name"] for entry in group.about["levels"]]
    one, other = (_of_level(nats, names, level) for nats in (a.nats, b.nats))
    scale = _scale("nll" if excess else name, a, one) or _scale("nll" if excess else name, b, other)
    found = paired(list(other * scale), list(one * scale))
    gap = difference(b.measurements[name], a.measurements[name])
    if abs(found.difference - gap) > 1e-6 * max(abs(a.measurements[name].value), abs(b.measurements[name].value)):
        raise IntegrityError(f"{a.label}: the likelihoods in per_image.npz are not those of results.json; compare again")
    return found.interval, found.p


def _of_level(nats: Floats, names: Sequence[str], level: str) -> Floats:
    """Nats (seeds, images) of one level, or of all together."""
    chosen: Floats = nats[:, names.index(level)] if level else nats.sum(axis=1)
    return chosen


def _scale(name: str, entry: Entry, nats: Floats) -> float:
    """From nats an image to the unit of a measurement; 0 where nothing costs anything, in any unit."""
    mean = float(nats.mean())
    return entry.measurements[name].value / mean if mean else 0.0


def _combined(a: Measurement, b: Measurement) -> Interval | None:
    """The interval of b - a, from two intervals of independent values; None without them."""
    if a.interval is None or b.interval is None:
        return None
    gap = b.value - a.value
    below = ((b.value - b.interval[0]) ** 2 + (a.interval[1] - a.value) ** 2) ** 0.5
    above = ((b.interval[1] - b.value) ** 2 + (a.value - a.interval[0]) ** 2) ** 0.5
    return gap - below, gap + above


def _freedom(entry: Entry, measurement: Measurement) -> int:
    """Of a value over several trainings, these are few; else the items are what varies."""
    return max(1, (entry.repeats if entry.repeats > 1 else measurement.n) - 1)


def _p(gap: float, interval: Interval, freedom: int) -> float:
    """Two-sided p that is below 0.05 exactly where the interval leaves 0 out, on the side where 0 is."""
    reach = gap - interval[0] if gap > 0 else interval[1] - gap
    if reach == 0:
        return 1.0 if gap == 0 else 0.0
    return float(2 * stdtr(freedom, -abs(gap) / reach * stdtrit(freedom, 0.975)))


def _judged(changes: Sequence[Change]) -> list[Change]:
    """With a verdict each; a measurement of all priors, or of all baselines, is one family of tests."""
    families: dict[tuple[str, str], list[int]] = {}
    for i, change in enumerate(changes):
        if change.p is not None:
            families.setdefault((change.entry.kind, change.name), []).append(i)
    adjusted: dict[int, float] = {}
    for places in families.values():
        adjusted |= dict(zip(places, holm([changes[i].p or 0.0 for i in places]), strict=True))
    return [
        evolve(change, p_holm=adjusted.get(i), verdict=_verdict(change, adjusted.get(i))) for i, change in enumerate(changes)
    ]


def _verdict(change: Change, p: float | None) -> str:
    if change.difference == 0:
        return "equal"
    if p is None:
        return "unsure"
    better = (change.difference > 0) == change.a.key.higher_is_better
    return "tie" if p >= SURE else "better" if better else "worse"
