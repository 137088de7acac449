"""What a comparison says: which prior is better on the same codes, and whether the distances of samples agree on a winner."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from attrs import frozen

from dvgen.errors import IncomparableError
from dvgen.evaluation.measurement import Measurement, best
from dvgen.evaluation.nll import Floats
from dvgen.evaluation.statistics import holm, mean_interval, paired

SURE = 0.05
"""Verdicts of one table, all together, are wrong this often at most (Holm 1979), were all priors equally good."""


@frozen
class Contestant:
    """A row as its rivals see it: measurements merged over repeats, and of each repeat nats/code of every test image.

    repeats: the measurements of each. unranked: why it is not ranked, empty where it is.
    """

    name: str
    budget: str
    measurements: Mapping[str, Measurement]
    nats: Sequence[Floats]
    repeats: Sequence[Mapping[str, Measurement]]
    unranked: str


def verdicts(rows: Sequence[Contestant]) -> list[dict[str, Any]]:
    """For every two rows of one budget: the difference in nats/code, paired by image and repeat, and what it says.

    All pairs on these codes are judged together: their p-values are Holm's. Rows of two budgets are not paired.
    """
    found = [_pair(a, b) for a, b in itertools.combinations(rows, 2) if a.budget == b.budget]
    judged = [verdict for verdict in found if not verdict["verdict"]]
    for verdict, p in zip(judged, holm([verdict["p"] for verdict in judged]), strict=True):
        better = verdict["pair"][0 if verdict["difference"] < 0 else 1]
        verdict |= {"p_holm": p, "verdict": f"{better} is better" if p < SURE else "tie"}
    return found


def _pair(a: Contestant, b: Contestant) -> dict[str, Any]:
    empty = dict.fromkeys(("difference", "interval", "p", "p_holm", "better_on_image"))
    known = {"pair": [a.name, b.name], "budget": a.budget, "unit": "nats/code"} | empty
    try:
        best([a.measurements["nll"], b.measurements["nll"]])
    except IncomparableError as error:  # such as an exact likelihood and a bound
        return known | {"verdict": f"not ranked: {error}"}
    found = paired(a.nats, b.nats)
    reasons = [f"{row.name} is {row.unranked}" for row in (a, b) if row.unranked]
    return known | {
        "difference": found.difference,
        "interval": found.interval,
        "p": found.p,
        "better_on_image": found.better,
        "verdict": f"not ranked: {'; '.join(reasons)}" if reasons else "",
    }


def fidelity(rows: Sequence[Contestant]) -> dict[str, Any]:
    """Which prior's samples are closest to real signals: a winner only where every space of features names the same one.

    Over repeats it must also beat each of the others in every space, by a t-interval of their paired differences. Rows whose
    distances were measured differently, such as those of priors with labels and without, have no winner.
    """
    by_budget = {row.budget: [one for one in rows if one.budget == row.budget and not one.unranked] for row in rows}
    found = [_closest(ranked) | {"budget": budget} for budget, ranked in by_budget.items() if len(ranked) > 1]
    known = [one for one in found if one["text"]]
    several = len(known) > 1
    text = "; ".join(f"{one['budget']}: {one['text']}" if several else one["text"] for one in known)
    winners = {one["winner"] for one in known}
    return {"winner": winners.pop() if len(winners) == 1 else None, "text": text}


def _closest(rows: Sequence[Contestant]) -> dict[str, Any]:
    spaces = [name for name in rows[0].measurements if name.startswith("fd/")]
    spaces = [name for name in spaces if all(name in row.measurements for row in rows)]
    ranked = {name: sorted(rows, key=lambda row: row.measurements[name].value) for name in spaces}
    labels = {name: rows[0].measurements[name].key.metric for name in spaces}
    if not spaces:
        return {"winner": None, "text": ""}
    if any(row.measurements[name].key != rows[0].measurements[name].key for row in rows for name in spaces):
        return {"winner": None, "text": "not ranked: the distances of these rows were measured differently"}
    firsts = {name: order[0].name for name, order in ranked.items()}
    if len(set(firsts.values())) > 1:
        told = ", ".join(f"{labels[name]} prefers {first}" for name, first in firsts.items())
        return {"winner": None, "text": f"no winner: {told}"}
    (winner,) = set(firsts.values())
    everywhere = "every distance" if len(spaces) > 1 else labels[spaces[0]]
    if len(rows[0].repeats) < 2:
        return {
            "winner": None,
            "text": f"{everywhere} is lowest for {winner}, in one repeat: no interval (--seeds 3 gives one)",
        }
    unsure = [labels[name] for name, (first, *others) in ranked.items() if not all(_surely(name, first, o) for o in others)]
    if unsure:
        return {"winner": None, "text": f"tie: {winner} is lowest, but not beyond the spread of repeats in {', '.join(unsure)}"}
    return {"winner": winner, "text": f"{winner} is closest to real signals in {everywhere}"}


def _surely(name: str, first: Contestant, second: Contestant) -> bool:
    """Whether the interval of the differences, repeat by repeat, lies below 0."""
    differences = [a[name].value - b[name].value for a, b in zip(first.repeats, second.repeats, strict=True)]
    _, interval = mean_interval(np.asarray(differences))
    return interval is not None and interval[1] < 0
