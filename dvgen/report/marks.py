"""How a row of a comparison looks wherever it is drawn: a colour, a marker and a dash of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen
from markupsafe import Markup

COLOURS = 8
"""Of which the style sheet has one for light and one for dark pages; a ninth row has the first again, with another marker."""
MARKERS = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0Z",  # disc
    "M-3.6-3.6H3.6V3.6H-3.6Z",  # square
    "M0-4.8L4.6 3.6H-4.6Z",  # triangle
    "M0-5L5 0L0 5L-5 0Z",  # diamond
    "M0 4.8L4.6-3.6H-4.6Z",  # triangle upside down
    "M-1.6-4.6H1.6V-1.6H4.6V1.6H1.6V4.6H-1.6V1.6H-4.6V-1.6H-1.6Z",  # cross
    "M0-5L1.5-1.6L5-1.5L2.3 .9L3.2 4.6L0 2.6L-3.2 4.6L-2.3 .9L-5-1.5L-1.5-1.6Z",  # star
    "M-4.6 0L-2.3-4H2.3L4.6 0L2.3 4H-2.3Z",  # hexagon
    "M-4.4-4.4L4.4 4.4V-4.4L-4.4 4.4Z",  # bow
)
DASHES = ("", "7 3", "2 2.5", "9 3 2 3", "4 2", "12 3", "2 4", "7 2 2 2 2 2", "1 2")


@frozen
class Mark:
    """A row: its name on the page, and its place among the rows, which decides how it looks."""

    name: str
    place: int

    @property
    def colour(self) -> str:
        """A class of the style sheet."""
        return f"c{self.place % COLOURS}"

    @property
    def dash(self) -> str:
        """For `stroke-dasharray`."""
        return DASHES[self.place % len(DASHES)]

    def marker(self, x: float, y: float, title: str = "") -> Markup:
        """The marker at a place, with a text on hovering."""
        path = MARKERS[self.place % len(MARKERS)]
        told = Markup("<title>{}</title>").format(title) if title else ""
        return Markup('<path class="mark {}" d="{}" transform="translate({:.1f} {:.1f})">{}</path>').format(
            self.colour, path, x, y, told
        )

    @property
    def swatch(self) -> Markup:
        """A bit of its line with its marker, for legends and tables."""
        line = Markup('<path class="line {}" stroke-dasharray="{}" d="M1 7H27"/>').format(self.colour, self.dash)
        return Markup('<svg class="swatch" viewBox="0 0 28 14" aria-hidden="true">{}{}</svg>').format(line, self.marker(14, 7))


def marks_of(rows: Sequence[Mapping[str, Any]]) -> list[Mark]:
    """The rows' marks; a row is named by its prior, and by its budget too where a prior has several."""
    priors = [row["prior"] for row in rows]
    several = len({row["budget"] for row in rows}) > 1
    told = [several and row["budget"] not in row["prior"] for row in rows]
    names = [f"{prior} {row['budget']}" if more else prior for prior, row, more in zip(priors, rows, told, strict=True)]
    return [Mark(name, place) for place, name in enumerate(names)]
