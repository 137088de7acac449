"""The report's charts: what is drawn is where the numbers say it is."""

import itertools
import json
import math
import random
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from toy_results import drawn, row

from dvgen.errors import ShapeError
from dvgen.report.curves import Point, frontier, learning_curves, pareto_charts, read_log, series, settled, thinned
from dvgen.report.marks import marks_of
from dvgen.report.scale import Scale, short
from dvgen.report.strip import Span, Strip

ROUND = [digit * 10.0**power for power in range(-12, 13) for digit in (1, 2, 5)]


def numbers(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"-?\d+\.?\d*", text)]


def marked(*rows):
    return list(zip(rows, marks_of(rows), strict=True))


def write_log(folder: Path, entries: list[dict]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))


@pytest.mark.parametrize("log", [False, True])
def test_a_scale_puts_its_ends_at_the_ends_and_the_middle_in_the_middle(log):
    """The middle is the arithmetic mean, on a logarithmic axis the geometric one."""
    scale = Scale(2.0, 32.0, 10.0, 110.0, log)
    assert [scale(2.0), scale(32.0)] == pytest.approx([10.0, 110.0])
    assert scale(8.0 if log else 17.0) == pytest.approx(60.0)


def test_ticks_are_all_round_multiples_in_the_range_of_the_finest_step_that_is_not_too_many():
    """Against every round step there is: a finer one would have more than count + 1 ticks."""
    draw = random.Random(0)
    for _ in range(300):
        low = draw.uniform(-1, 1) * 10 ** draw.uniform(-3, 6)
        high = low + 10 ** draw.uniform(-3, 6)
        inside = {
            step: [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
            for step in ROUND
            if (high - low) / step < 100
        }
        wanted = next(ticks for _, ticks in sorted(inside.items()) if len(ticks) <= 6)
        assert Scale(low, high, 0, 1).ticks(5) == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_logarithmic_ticks_lie_in_the_range_are_round_and_few():
    draw = random.Random(1)
    for _ in range(300):
        low = 10 ** draw.uniform(-6, 6)
        high = low * 10 ** draw.uniform(0.02, 9)
        ticks = Scale(low, high, 0, 1, log=True).ticks(5)
        assert 1 <= len(ticks) <= 10
        assert all(low * 0.999 <= tick <= high * 1.001 for tick in ticks)
        assert all(len(f"{tick:.9g}".strip("0.").replace(".", "").split("e")[0].strip("0")) <= 3 for tick in ticks)
    assert Scale(0.9, 1100, 0, 1, log=True).ticks(5) == [1, 10, 100, 1000]


def test_an_axis_holds_its_values_and_refuses_what_a_logarithm_cannot_take():
    scale = Scale.over([3.0, 5.0], 0, 100)
    assert 0 < scale(3.0) < scale(5.0) < 100
    lonely = Scale.over([4.0], 0, 100)
    assert 0 < lonely(4.0) < 100
    with pytest.raises(ShapeError, match="positive"):
        Scale.over([0.0, 1.0], 0, 100, log=True)
    with pytest.raises(ShapeError, match="at least one"):
        Scale.over([], 0, 100)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.25, "0.25"), (1500, "1500"), (12000, "12k"), (2.5e6, "2.5M"), (2e15, "2P"), (-20000, "-20k"), (3e-7, "3e-7")],
)
def test_numbers_of_axes_are_short(value, text):
    assert short(value) == text


def test_the_points_of_a_learning_curve_are_those_of_the_log(tmp_path):
    """Read back from the picture: its ticks say what a pixel is worth, its line then says every value that was logged."""
    values = {100: 3.5, 200: 2.25, 300: 2.0, 400: 1.75, 500: 1.7}
    one = row("gpt", drawn(0, seeds=1))
    write_log(tmp_path / one["repeats"][0]["folder"], [{"step": s, "loss": 9.0, "validation": v} for s, v in values.items()])
    (svg,) = learning_curves(tmp_path, marked(one))
    found = ElementTree.fromstring(svg)
    texts = found.findall("text[@class='tick']")
    across = [(float(t.get("x")), float(t.text)) for t in texts if t.get("text-anchor") == "middle"]
    up = [(float(t.get("y")) - 4, float(t.text)) for t in texts if t.get("text-anchor") == "end"]
    path = numbers(next(p.get("d") for p in found.iter("path") if p.get("class") == "line c0"))
    pixels = np.array(path).reshape(-1, 2)
    for places, ticks, wanted in ((pixels[:, 0], across, list(values)), (pixels[:, 1], up, list(values.values()))):
        (slope, offset) = np.polyfit(*zip(*ticks, strict=True), 1)
        assert slope * places + offset == pytest.approx(wanted, rel=0.01)


def test_repeats_are_read_at_the_same_place_even_when_they_logged_at_others(tmp_path):
    """By hand: at 20 the first run is half way between 4 and 2, and the second ends at 30 before the first does."""
    first = [
        {"step": 1, "seconds": 10, "loss": 4.0},
        {"step": 2, "seconds": 30, "loss": 2.0},
        {"step": 3, "seconds": 50, "loss": 1.0},
    ]
    second = [
        {"step": 1, "seconds": 10, "loss": 6.0},
        {"step": 2, "seconds": 20, "loss": 2.0},
        {"step": 3, "seconds": 30, "loss": 1.0},
    ]
    assert series([first, second], "seconds", "loss") == [
        Point(10, 5.0, 4.0, 6.0),
        Point(20, 2.5, 2.0, 3.0),
        Point(30, 1.5, 1.0, 2.0),
    ]
    assert series([first, []], "seconds", "loss") == []
    assert series([first], "flops", "loss") == []


def test_axes_that_were_not_logged_are_left_out_and_training_loss_stands_in_for_validation(tmp_path):
    one = row("gpt", drawn(0, seeds=1))
    write_log(tmp_path / one["repeats"][0]["folder"], [{"step": s, "loss": 1 / s, "seconds": s / 9} for s in (10, 20, 30)])
    charts = learning_curves(tmp_path, marked(one))
    labels = [[t.text for t in ElementTree.fromstring(c).findall("text[@class='label']")] for c in charts]
    assert labels == [["steps", "training loss"], ["training time, s", "training loss"]]
    assert learning_curves(tmp_path / "nowhere", marked(one)) == []


def test_a_log_of_a_run_that_was_killed_and_resumed_has_every_step_once(tmp_path):
    lines = [
        '{"step": 1, "loss": 9}',
        '{"step": 2, "loss": 8}',
        '{"step": 1, "notice": "text"}',
        '{"step": 2, "loss": 7}',
        '{"st',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert [(entry["step"], entry["loss"]) for entry in read_log(tmp_path / "metrics.jsonl")] == [(1, 9), (2, 7)]


def test_long_curves_are_thinned_evenly_and_keep_their_ends():
    points = [Point(i, i, i, i) for i in range(1000)]
    kept = thinned(points, 50)
    assert len(kept) == 50
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert max(b.x - a.x for a, b in itertools.pairwise(kept)) <= 22
    assert thinned(points[:7], 50) == points[:7]


def test_the_first_losses_do_not_decide_the_height_of_a_chart():
    points = [Point(float(x), 100.0 / (x + 1), 100.0 / (x + 1), 100.0 / (x + 1)) for x in range(101)]
    assert max(settled([points])) == pytest.approx(100 / 21)


def test_the_frontier_is_what_no_other_point_beats_in_both():
    """Against comparing every pair of points."""
    draw = random.Random(2)
    points = [Point(draw.randint(0, 8), draw.randint(0, 8), 0, 0) for _ in range(12)]
    points.append(Point(9, min(point.y for point in points), 0, 0))  # as good as the best, but dearer
    unbeaten = {(p.x, p.y) for p in points if not any(q.x <= p.x and q.y <= p.y and (q.x, q.y) != (p.x, p.y) for q in points)}
    assert [(p.x, p.y) for p in frontier(points)] == sorted(unbeaten)


def test_pareto_charts_hold_one_marker_a_row_and_tell_its_numbers():
    rows = marked(row("gpt", drawn(0)), row("pixelsnail", drawn(1), samples_of=1))
    charts = [ElementTree.fromstring(chart) for chart in pareto_charts(rows, ["rand"])]
    assert len(charts) == 2
    for chart, name in zip(charts, ("nll", "fd/rand"), strict=True):
        told = [mark.find("title").text for mark in chart.iter("path") if (mark.get("class") or "").startswith("mark")]
        wanted = [f"{mark.name}: {one['measurements'][name]['value']:.4g} at" for one, mark in rows]
        assert [any(text.startswith(start) for text in told) for start in wanted] == [True, True]
        assert len(told) == 2


def test_rows_look_different_from_each_other_and_are_named_by_their_budget_where_there_are_several():
    rows = [row("gpt", drawn(0), budget=f"steps:{n}") for n in range(12)]
    marks = marks_of(rows)
    assert len({(mark.colour, mark.marker(0, 0)) for mark in marks}) == 12
    assert [mark.name for mark in marks[:2]] == ["gpt steps:0", "gpt steps:1"]
    assert [mark.name for mark in marks_of(rows[:1])] == ["gpt"]


def test_an_interval_is_drawn_from_its_low_to_its_high_end():
    """The whisker's ends, in the scale that the ticks of the axis give."""
    strip = Strip([Span(2.0, 1.0, 4.0), Span(9.0, 9.0, 9.0)], [0.0])
    axis = ElementTree.fromstring(strip.axis()).findall("text")
    slope, offset = np.polyfit([float(t.get("x")) for t in axis], [float(t.text) for t in axis], 1)
    svg = ElementTree.fromstring(strip.dot(Span(2.0, 1.0, 4.0), None, "text"))
    low, _, high, *_ = numbers(next(p.get("d") for p in svg.iter("path") if "whisker" in p.get("class")))
    assert [slope * x + offset for x in (low, high)] == pytest.approx([1.0, 4.0], abs=0.02)
    assert slope * float(svg.find("circle").get("cx")) + offset == pytest.approx(2.0, abs=0.02)
    exact = ElementTree.fromstring(strip.dot(Span(9.0, 9.0, 9.0), None, "text"))
    assert not [p for p in exact.iter("path") if "whisker" in p.get("class")]


def test_bars_begin_at_zero_on_either_side():
    strip = Strip([Span(-1.0, -2.0, 0.5), Span(3.0, 2.0, 4.0)], [0.0])
    zero = strip.scale(0.0)
    (mark,) = marks_of([row("gpt", drawn(0))])
    for value in (-1.0, 3.0):
        svg = ElementTree.fromstring(strip.bar(Span(value, value, value), mark, "text"))
        left, _, right, *_ = numbers(next(p.get("d") for p in svg.iter("path") if "bar" in p.get("class")))
        assert (left, right) == pytest.approx(sorted((zero, strip.scale(value))), abs=0.06)
