"""What was found, for people: on a terminal, in Markdown, and as a JSON document."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from attrs import asdict

from dvgen import __version__
from dvgen.checking.place import Place
from dvgen.checking.running import BROKEN, KEPT, NOT_TRIED, WAIVED, Outcome, Report

LETTERS = {
    "K": "package and config",
    "P": "quantizers",
    "M": "every model",
    "E": "encoders",
    "D": "decoders",
    "G": "discriminators",
    "L": "losses",
    "A": "adversarial losses",
    "R": "priors",
    "S": "data sets",
    "C": "code sources",
    "F": "features",
}
"""What the rules of a letter are about."""

STATES = (KEPT, BROKEN, WAIVED, NOT_TRIED)
"""What may become of a rule, in the order in which they are counted."""


def text(report: Report) -> Iterator[str]:
    """Lines for a terminal: every broken rule, what is waived and what was not tried, and how many were kept."""
    yield f"{title(report)}: {verdict(report)}"
    for outcome, others in _by_fault(report.of(BROKEN)):
        yield ""
        yield from _broken(outcome)
        if others:
            yield f"  also:    the same error stands in the way of {', '.join(other.law.name for other in others)}"
    for outcome in report.of(WAIVED):
        yield f"  waived; {outcome.trial}: {outcome.law.full_name}: {outcome.reason}"
    for reason in dict.fromkeys((*report.why, *(_untried(outcome) for outcome in report.of(NOT_TRIED)))):
        yield f"  {reason}"


def title(report: Report) -> str:
    """What was checked: "encoder vqvae and decoder vqvae"."""
    return " and ".join(f"{one.kind} {one.name}" for one in report.group)


def verdict(report: Report) -> str:
    """How many rules are kept, broken, waived, and not tried."""
    return ", ".join(f"{count} rules {state}" for state, count in _counts(report.outcomes).items() if count or state == KEPT)


def markdown(reports: Sequence[Report], command: str) -> str:
    """A summary to paste into a README; the command repeats it. Only where something is waived has it a column for that."""
    states = [state for state in STATES if state != WAIVED or any(report.of(WAIVED) for report in reports)]
    lines = [
        f"Checked with `{command}` (dvgen {__version__}, torch {torch.__version__.partition('+')[0]}):",
        "",
        f"| component | rules | {' | '.join(states)} |",
        f"|---|---|{'---:|' * len(states)}",
    ]
    for report in reports:
        for letter, about in LETTERS.items():
            of_letter = [outcome for outcome in report.outcomes if outcome.law.name.startswith(letter)]
            counts = _counts(of_letter)
            if of_letter:
                lines.append(f"| {title(report)} | {letter}: {about} | {' | '.join(str(counts[state]) for state in states)} |")
    faults = [
        f"* {outcome.who} breaks {outcome.law.name} ({outcome.law.rule}): {outcome.found.message}"
        for report in reports
        for outcome in report.of(BROKEN)
        if outcome.found
    ]
    faults += [
        f"* {outcome.who} waives {outcome.law.name} ({outcome.law.rule}; {outcome.trial}): {outcome.reason}"
        for report in reports
        for outcome in report.of(WAIVED)
    ]
    faults += [f"* {title(report)}: {reason}" for report in reports for reason in report.why]
    return "\n".join([*lines, *(["", *faults] if faults else [])])


def document(target: str, reports: Sequence[Report], command: str) -> dict[str, Any]:
    """All of it as what JSON can hold."""
    return {
        "schema": 1,
        "target": target,
        "kept": not any(report.of(BROKEN) for report in reports),
        "checks": [_check(report) for report in reports],
        "markdown": markdown(reports, command),
    }


def _by_fault(broken: Sequence[Outcome]) -> Iterator[tuple[Outcome, list[Outcome]]]:
    """Broken rules, each with those that the same error of the plugin stands in the way of.

    First those whose law saw its fault, for it says more than an error in its way.
    """
    yield from ((outcome, []) for outcome in broken if outcome.found and outcome.found.seen)
    errors: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in broken:
        if outcome.found and not outcome.found.seen:
            errors.setdefault((outcome.found.message, str(outcome.found.place)), []).append(outcome)
    yield from ((first, others) for first, *others in errors.values())


def _broken(outcome: Outcome) -> Iterator[str]:
    found = outcome.found
    if found is None:
        return
    yield f"BROKEN {outcome.law.name}: {outcome.law.rule} ({outcome.who})"
    yield f"  found:   {found.message}"
    if not outcome.law.once:
        yield f"  with:    {found.example or 'the plain example'}"
    if found.place is not None:
        yield f"  where:   {found.place}: {found.place.text}"
    elif found.ran:
        for word, (name, place) in zip(("where:", *[""] * len(found.ran)), found.ran.items(), strict=False):
            yield f"  {word:<8} {place}: {place.text}  (end of {name})"
    yield f"  usually: {outcome.cause}"


def _counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    return {state: sum(outcome.state == state for outcome in outcomes) for state in STATES}


def _untried(outcome: Outcome) -> str:
    return f"not tried: {outcome.law.name} {outcome.law.check.__name__}: {outcome.reason}"


def _check(report: Report) -> dict[str, Any]:
    components = [
        asdict(one.supplied.component) | {"plugin": one.supplied.plugin, "distribution": one.supplied.distribution}
        for one in report.group
    ]
    return {
        "components": components,
        "not_tried": list(report.why),
        "counts": _counts(report.outcomes),
        "rules": [_rule(outcome) for outcome in report.outcomes],
    }


def _rule(outcome: Outcome) -> dict[str, Any]:
    """A rule; of a broken one, all that is known about how."""
    law, found = outcome.law, outcome.found
    row: dict[str, Any] = {"who": outcome.who, "name": law.name, "check": law.check.__name__, "rule": law.rule}
    row["state"] = outcome.state
    row |= {name: value for name in ("reason", "tried") if (value := getattr(outcome, name))}
    if found is not None:
        row |= {"found": found.message, "example": found.example, "usual_cause": outcome.cause}
        row["place"] = None if found.place is None else _line(found.place)
        row["ran"] = [{"function": name} | _line(place) for name, place in found.ran.items()]
    return row


def _line(place: Place) -> dict[str, Any]:
    return {"file": place.file, "line": place.line, "text": place.text}
