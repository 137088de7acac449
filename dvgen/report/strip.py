"""Dots with whiskers, and bars, one row of a table each, over one scale that all rows of the table share."""

from collections.abc import Iterable, Sequence
from typing import final

from attrs import field, frozen
from markupsafe import Markup

from dvgen.report.marks import Mark
from dvgen.report.scale import Scale, tick_labels

WIDTH, HEIGHT, AXIS = 280, 22, 20
EDGE = 8


@final
@frozen
class Span:
    """A value and the ends of its interval, which are the value itself where there is none."""

    value: float
    low: float
    high: float


@final
@frozen
class Strip:
    """The scale of a column of plots. lines: values at which every row has an upright line, such as zero."""

    spans: Sequence[Span]
    lines: Sequence[float] = ()
    scale: Scale = field(init=False)

    @scale.default
    def _scale(self) -> Scale:
        ends = [end for span in self.spans for end in (span.value, span.low, span.high)]
        return Scale.over([*ends, *self.lines], EDGE, WIDTH - EDGE, margin=0.02)

    def dot(self, span: Span, mark: Mark | None, text: str) -> Markup:
        """One row: a marker (without a mark a plain ring) with its whisker."""
        at = self.scale(span.value)
        colour = mark.colour if mark else "plain"
        marker = mark.marker(at, HEIGHT / 2) if mark else _ring(at)
        return self._row([self._whisker(span, colour), marker], text)

    def bar(self, span: Span, mark: Mark, text: str) -> Markup:
        """One row: a bar from zero (which must be one of the lines) with its whisker."""
        left, right = sorted((self.scale(0.0), self.scale(span.value)))
        bar = Markup('<path class="bar {}" d="M{:.1f} 5H{:.1f}V17H{:.1f}Z"/>').format(mark.colour, left, right, left)
        return self._row([bar, self._whisker(span, "plain")], text)

    def axis(self) -> Markup:
        """The row below all others: ticks and their numbers."""
        ticks = self.scale.ticks(4)
        marks = [
            Markup(
                '<path class="axis" d="M{0:.1f} 0v4"/><text class="tick" x="{0:.1f}" y="15" text-anchor="{1}">{2}</text>'
            ).format(self.scale(tick), _anchor(self.scale(tick)), label)
            for tick, label in zip(ticks, tick_labels(ticks), strict=True)
        ]
        line = Markup('<path class="axis" d="M{} 0H{}"/>').format(EDGE, WIDTH - EDGE)
        return _svg(AXIS, [line, *marks], "", hidden=True)

    def _row(self, marks: Iterable[Markup], text: str) -> Markup:
        grid = [Markup('<path class="grid" d="M{:.1f} 0V{}"/>').format(self.scale(t), HEIGHT) for t in self.scale.ticks(4)]
        lines = [Markup('<path class="rule" d="M{:.1f} 0V{}"/>').format(self.scale(v), HEIGHT) for v in self.lines]
        return _svg(HEIGHT, [*grid, *lines, *marks], text)

    def _whisker(self, span: Span, colour: str) -> Markup:
        if span.low == span.high:
            return Markup("")
        low, high, y = self.scale(span.low), self.scale(span.high), HEIGHT / 2
        return Markup('<path class="whisker {}" d="M{:.1f} {:.0f}H{:.1f}M{:.1f} 7V15M{:.1f} 7V15"/>').format(
            colour, low, y, high, low, high
        )


def _ring(x: float) -> Markup:
    return Markup('<circle class="ring" cx="{:.1f}" cy="{:.0f}" r="3.4"/>').format(x, HEIGHT / 2)


def _anchor(x: float) -> str:
    """So that no number is cut off at an edge."""
    return "start" if x < 3 * EDGE else "end" if x > WIDTH - 3 * EDGE else "middle"


def _svg(height: int, marks: Iterable[Markup], text: str, *, hidden: bool = False) -> Markup:
    told = Markup("<title>{}</title>").format(text) if text else ""
    how = Markup('aria-hidden="true"') if hidden else Markup('role="img" aria-label="{}"').format(text)
    return Markup('<svg class="strip" viewBox="0 0 {} {}" {}>{}{}</svg>').format(
        WIDTH, height, how, told, Markup("").join(marks)
    )
