"""Learning curves from the logs of training, on four axes, and what training and sampling time buy."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from dvgen.report.chart import Axis, Chart, Point, band, curve, dot, line
from dvgen.report.likelihood_tables import Rows, span
from dvgen.report.marks import Mark

LOG = "metrics.jsonl"
AXES = {"step": "steps", "codes": "codes seen", "flops": "training FLOPs", "seconds": "training time, s"}
VALIDATION, LOSS = "validation", "loss"
POINTS = 120
"""Of one line; a longer log is thinned evenly, its last point kept."""
WARM_UP = 0.2
"""The share of training that does not decide how high the chart is: the first losses would flatten all that follows."""
WIDE = 4
"""From this ratio of greatest to least on, an axis of seconds is logarithmic."""

Log = Sequence[Mapping[str, Any]]


def read_log(path: Path) -> Log:
    """The steps of a log, in order; of a step that was made twice, after a resume, the later. Empty without a file."""
    steps: dict[int, dict[str, Any]] = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            entry = json.loads(text)
        except ValueError:
            continue  # a run that was killed may have left half a line
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            steps[entry["step"]] = steps.get(entry["step"], {}) | entry
    return [steps[step] for step in sorted(steps)]


def series(logs: Sequence[Log], across: str, up: str) -> list[Point]:
    """The mean over repeats, with least and greatest, between the last of their beginnings and the first of their ends.

    At every place that any repeat has a point at; the others are read off the straight lines between theirs, because a
    budget of seconds ends with another step each time.
    """
    tables = [[(e[across], e[up]) for e in log if _number(e.get(across)) and _number(e.get(up))] for log in logs]
    if not tables or not all(tables):
        return []
    first, last = max(table[0][0] for table in tables), min(table[-1][0] for table in tables)
    xs = sorted({x for table in tables for x, _ in table if first <= x <= last})
    ys = np.stack([np.interp(xs, [x for x, _ in table], [y for _, y in table]) for table in tables])
    return [Point(x, *ends) for x, *ends in zip(xs, *(f(ys, axis=0).tolist() for f in (np.mean, np.min, np.max)), strict=True)]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def thinned(points: Sequence[Point], most: int = POINTS) -> list[Point]:
    """At most `most` of the points, evenly, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def learning_curves(folder: Path, rows: Rows) -> list[Markup]:
    """One chart an axis that the logs have: validation NLL (and the training loss, faint), or the training loss alone."""
    logs = [(mark, [read_log(folder / repeat["folder"] / LOG) for repeat in row["repeats"]]) for row, mark in rows]
    charts = []
    for across, label in AXES.items():
        lines = {up: [(mark, thinned(series(own, across, up))) for mark, own in logs] for up in (VALIDATION, LOSS)}
        main = VALIDATION if any(len(points) > 1 for _, points in lines[VALIDATION]) else LOSS
        drawn = [(mark, points) for mark, points in lines[main] if len(points) > 1]
        faint = [(mark, points) for mark, points in lines[LOSS] if len(points) > 1] if main == VALIDATION else []
        if drawn:
            charts.append(_curves(label, main, drawn, faint))
    return charts


def _curves(
    across: str, main: str, drawn: Sequence[tuple[Mark, Sequence[Point]]], faint: Sequence[tuple[Mark, Sequence[Point]]]
) -> Markup:
    both = [points for _, points in (*drawn, *faint)]
    up = "validation NLL, nats/code" if main == VALIDATION else "training loss"
    chart = Chart(
        title=f"{up} against {across}",
        text="; ".join(f"{mark.name} ends at {points[-1].y:.4f}" for mark, points in drawn),
        across=Axis(across, [point.x for points in both for point in points]),
        up=Axis(up, settled(both)),
    )
    marks = [curve(chart, f"{mark.colour} faint", points, f"{mark.name}, training loss") for mark, points in faint]
    marks += [band(chart, mark, points) for mark, points in drawn if any(p.low != p.high for p in points)]
    marks += [line(chart, mark, points) for mark, points in drawn]
    marks += [
        dot(chart, mark, points[-1]._replace(low=points[-1].y, high=points[-1].y), f"{mark.name}: {points[-1].y:.4f}")
        for mark, points in drawn
    ]
    return chart.svg(marks)


def settled(lines: Iterable[Sequence[Point]]) -> list[float]:
    """Lows and highs of every line after its first fifth: what the height of the chart is made for."""
    found = []
    for points in lines:
        begin = points[0].x + WARM_UP * (points[-1].x - points[0].x)
        found += [end for point in points if point.x >= begin for end in (point.low, point.high)]
    return found


def pareto_charts(rows: Rows, features: Sequence[str]) -> list[Markup]:
    """NLL against training time, and every Frechet distance against the time that a sample takes."""
    charts = []
    cost = {mark.name: row["budget_spent"]["seconds"] for row, mark in rows}
    charts.append(_pareto(rows, "nll", cost, "training time, s", "NLL, nats/code"))
    wait = {mark.name: 1 / row["samples_per_second"] for row, mark in rows if row["samples_per_second"] > 0}
    for feature in features:
        known = [(row, mark) for row, mark in rows if f"fd/{feature}" in row["measurements"] and mark.name in wait]
        if known:
            label = known[0][0]["measurements"][f"fd/{feature}"]["key"]["metric"]
            charts.append(_pareto(known, f"fd/{feature}", wait, "sampling time, s/sample", label))
    return charts


def _pareto(rows: Rows, name: str, costs: Mapping[str, float], across: str, up: str) -> Markup:
    places = [(mark, costs[mark.name], span(row["measurements"][name])) for row, mark in rows]
    points = [(mark, Point(x, it.value, it.low, it.high)) for mark, x, it in places]
    xs = [point.x for _, point in points]
    chart = Chart(
        title=f"{up} against {across}",
        text="; ".join(f"{mark.name}: {point.y:.4g} at {point.x:.3g} s" for mark, point in points),
        across=Axis(across, xs, log=min(xs) > 0 and max(xs) / min(xs) >= WIDE),
        up=Axis(up, [end for _, point in points for end in (point.y, point.low, point.high)]),
    )
    best = frontier([point for _, point in points])
    marks = [_stairs(chart, best)] if len(best) > 1 else []
    marks += [dot(chart, mark, point, f"{mark.name}: {point.y:.4g} at {point.x:.3g} s") for mark, point in points]
    return chart.svg(marks)


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points than which none is both cheaper (x) and better (y), cheapest first."""
    found: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, p.y)):
        if not found or point.y < found[-1].y:
            found.append(point)
    return found


def _stairs(chart: Chart, best: Sequence[Point]) -> Markup:
    x, y = chart.x, chart.y
    path = f"M{x(best[0].x):.1f} {y(best[0].y):.1f}" + "".join(f"H{x(p.x):.1f}V{y(p.y):.1f}" for p in best[1:])
    return Markup('<path class="rule" d="{}"/>').format(path)
