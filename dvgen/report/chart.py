"""Charts of two axes as SVG, drawn with classes of the style sheet, so that they read on light and on dark pages."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, final

from attrs import frozen
from markupsafe import Markup

from dvgen.report.marks import Mark
from dvgen.report.scale import Scale, tick_labels

WIDTH, HEIGHT = 440, 290
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 44


class Axis(NamedTuple):
    """What an axis is called, with its unit; whether it is logarithmic; the values that must fit."""

    label: str
    values: Sequence[float]
    log: bool = False


class Point(NamedTuple):
    """A place in the units of the axes, and what is known of it: lows and highs are the ends of bands or whiskers."""

    x: float
    y: float
    low: float
    high: float


@final
@frozen
class Chart:
    """An empty chart: a title and a description for those who cannot see it, and both axes."""

    title: str
    text: str
    across: Axis
    up: Axis

    @property
    def x(self) -> Scale:
        """Where values stand from left to right."""
        return Scale.over(self.across.values, LEFT, WIDTH - RIGHT, log=self.across.log, margin=0.03)

    @property
    def y(self) -> Scale:
        """Where values stand from the bottom to the top."""
        return Scale.over(self.up.values, HEIGHT - BOTTOM, TOP, log=self.up.log)

    def svg(self, marks: Iterable[Markup]) -> Markup:
        """The whole picture. What lies outside of the axes is cut off."""
        inner = Markup('<svg x="{}" y="{}" width="{}" height="{}" viewBox="{} {} {} {}">{}</svg>').format(
            *self._box(), *self._box(), Markup("").join(marks)
        )
        return Markup(
            '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title><desc>{}</desc>{}{}</svg>'
        ).format(WIDTH, HEIGHT, self.title, self.title, self.text, Markup("").join(self._axes()), inner)

    def _box(self) -> tuple[float, float, float, float]:
        return LEFT - 6, TOP - 6, WIDTH - LEFT - RIGHT + 12, HEIGHT - TOP - BOTTOM + 12

    def _axes(self) -> Iterable[Markup]:
        ends = (LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP)
        across, up = self.x, self.y
        ticks = across.ticks(5)
        for tick, label in zip(ticks, tick_labels(ticks), strict=True):
            yield Markup(
                '<path class="grid" d="M{0:.1f} {1}V{2}"/><text class="tick" x="{0:.1f}" y="{3}" {4}>{5}</text>'
            ).format(across(tick), ends[2], ends[3], ends[2] + 15, Markup('text-anchor="middle"'), label)
        ticks = up.ticks(5)
        for tick, label in zip(ticks, tick_labels(ticks), strict=True):
            yield Markup(
                '<path class="grid" d="M{0} {2:.1f}H{1}"/><text class="tick" x="{3}" y="{4:.1f}" {5}>{6}</text>'
            ).format(ends[0], ends[1], up(tick), ends[0] - 6, up(tick) + 4, Markup('text-anchor="end"'), label)
        yield Markup('<path class="axis" d="M{} {}V{}H{}"/>').format(ends[0], ends[3], ends[2], ends[1])
        middle = ((ends[0] + ends[1]) / 2, (ends[2] + ends[3]) / 2)
        yield Markup('<text class="label" x="{}" y="{}" text-anchor="middle">{}</text>').format(
            middle[0], HEIGHT - 8, self.across.label
        )
        yield Markup('<text class="label" transform="translate(13 {}) rotate(-90)" text-anchor="middle">{}</text>').format(
            middle[1], self.up.label
        )


def curve(chart: Chart, look: str, points: Sequence[Point], title: str, dash: str = "") -> Markup:
    """A line through the points. look: classes of the style sheet; title: what is told on hovering."""
    across, up = chart.x, chart.y
    path = "L".join(f"{across(p.x):.1f} {up(p.y):.1f}" for p in points)
    return Markup('<path class="line {}" stroke-dasharray="{}" d="M{}"><title>{}</title></path>').format(
        look, dash, path, title
    )


def line(chart: Chart, mark: Mark, points: Sequence[Point]) -> Markup:
    """The line of a row."""
    return curve(chart, mark.colour, points, mark.name, mark.dash)


def band(chart: Chart, mark: Mark, points: Sequence[Point]) -> Markup:
    """What lies between the points' lows and highs."""
    across, up = chart.x, chart.y
    there = [f"{across(p.x):.1f} {up(p.low):.1f}" for p in points]
    back = [f"{across(p.x):.1f} {up(p.high):.1f}" for p in reversed(points)]
    return Markup('<path class="band {}" d="M{}Z"/>').format(mark.colour, "L".join([*there, *back]))


def dot(chart: Chart, mark: Mark, point: Point, title: str) -> Markup:
    """A marker, with a whisker from low to high where these differ."""
    x, up = chart.x(point.x), chart.y
    marker = mark.marker(x, up(point.y), title)
    if point.low == point.high:
        return marker
    whisker = Markup('<path class="whisker {}" d="M{:.1f} {:.1f}V{:.1f}"/>')
    return whisker.format(mark.colour, x, up(point.low), up(point.high)) + marker
