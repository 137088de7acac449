"""Tables of the report: what a template needs to know of a cell, a row and a table."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, final

from attrs import field, frozen
from markupsafe import Markup

Results = Mapping[str, Any]
MINUS = "\N{MINUS SIGN}"
DIGITS = {"nll": 4, "nll_train": 4, "nll_validation": 4, "bits_code": 4, "bits_image": 1, "code_rate": 4, "excess": 4}
"""Decimals of those that every table should have alike; others have as many as their size asks for."""
NONE = "–"


@final
@frozen
class Cell:
    """A text, what is told on hovering, a plot in its stead, a place on the page it leads to, a class of the style sheet."""

    text: str
    title: str = ""
    plot: Markup | None = None
    link: str = ""
    look: str = ""


@final
@frozen
class Line:
    """A row of a table: its head, how it is drawn elsewhere, its cells. apart: with a rule above it."""

    head: Cell
    cells: Sequence[Cell]
    swatch: Markup | None = None
    apart: bool = False


@final
@frozen
class Sheet:
    """A table: a title (or none), its columns (the first is that of the heads), its rows, and a last row of axes."""

    title: str
    columns: Sequence[Cell]
    lines: Sequence[Line]
    foot: Sequence[Cell] = ()
    notes: Sequence[str] = field(default=())


@final
@frozen
class Keys:
    """Every protocol in a document, each once, with the name it has on the page."""

    known: Mapping[str, tuple[str, Results]]

    @classmethod
    def of(cls, results: Results) -> Self:
        """In the order of their labels."""
        found = {_text(key): key for key in _keys(results["groups"])}
        ordered = sorted(found.items(), key=lambda item: (label(item[1]).lower(), item[0]))
        return cls({text: (f"key-{number}", key) for number, (text, key) in enumerate(ordered, start=1)})

    def name(self, key: Results) -> str:
        """The id that a key has on the page."""
        return self.known[_text(key)][0]

    def head(self, name: str, holders: Iterable[Results]) -> Cell:
        """The head of a column of measurements: the label and direction of the first there is, and its whole key."""
        for found in holders:
            if name in found:
                key = found[name]["key"]
                arrow = "↑" if key["higher_is_better"] else "↓"
                return Cell(f"{label(key)}\N{NO-BREAK SPACE}{arrow}", described(key), link=f"#{self.name(key)}")
        return Cell(name)


def _keys(part: Any) -> Iterable[Results]:
    if isinstance(part, Mapping):
        if "protocol" in part and "metric" in part:
            yield part
            return
        part = part.values()
    elif not isinstance(part, list):
        return
    for inner in part:
        yield from _keys(inner)


def _text(key: Results) -> str:
    return json.dumps(key, sort_keys=True)


def label(key: Results) -> str:
    """The metric of a key, and its unit where that says more."""
    return str(key["metric"]) if key["unit"] in ("", key["metric"]) else f"{key['metric']} {key['unit']}"


def described(key: Results) -> str:
    """A whole key on one line."""
    better = "higher is better" if key["higher_is_better"] else "lower is better"
    return "; ".join([label(key), better, *(f"{name}: {value}" for name, value in sorted(key["protocol"].items()))])


def measured(found: Results, name: str, *, spread: bool = True) -> Cell:
    """The cell of a measurement: value and, with `spread`, half of its interval or its range; a dash where there is none."""
    if name not in found:
        return Cell(NONE, look="na")
    it = found[name]
    told = [f"{it['value']:.6g}", f"n = {it['n']}"]
    if it.get("range") is not None:
        told.insert(1, f"over the networks {ranged(it['range'], decimals(name, it))}")
    if it["interval"] is not None:
        told.insert(1, f"95 % interval {ranged(it['interval'], decimals(name, it))}")
    exact = it["key"]["protocol"].get("likelihood", "exact") == "exact"
    text = value_text(name, it, spread=spread).replace("-", MINUS)
    return Cell(text if exact else f"≤ {text}", "; ".join(told))


def value_text(name: str, it: Results, *, spread: bool = True) -> str:
    """A measurement's value, with half its interval where it has one, else with its range over networks."""
    if name.startswith("usage"):
        return f"{it['value']:.1%}"
    digits = decimals(name, it)
    text = f"{it['value']:z.{digits}f}"
    if spread and it["interval"] is not None:
        low, high = it["interval"]
        return f"{text} ±{(high - low) / 2:.{digits}f}"
    if spread and it.get("range") is not None:
        return f"{text} [{', '.join(f'{end:z.{digits}f}' for end in it['range'])}]"
    return text


def fixed(value: float, digits: int, sign: str = "") -> str:
    """A number with so many decimals and a real minus; with sign="+" positive ones have theirs too."""
    return f"{value:{sign}z.{digits}f}".replace("-", MINUS)


def ranged(ends: Sequence[float], digits: int) -> str:
    """Two ends as text."""
    return f"{fixed(ends[0], digits)} to {fixed(ends[1], digits)}"


def decimals(name: str, it: Results) -> int:
    """How many decimals a value is shown with: enough for two significant digits of its uncertainty, or four of its own,
    but no more than four decimals where nothing is known of its uncertainty.
    """
    known = DIGITS.get(name.partition("/")[0])
    if known is not None:
        return known
    ends = it["interval"] or it.get("range") or (0.0, 0.0)
    half = (ends[1] - ends[0]) / 2
    size, wanted = (half, 1) if half else (max(abs(it["value"]), 0.1), 3)
    return max(0, min(6, wanted - math.floor(math.log10(size))))


def reasons(notes: Iterable[str]) -> dict[str, str]:
    """What is n/a and why, from notes such as "FID: n/a: its weights are missing"."""
    found = (re.match(r"([^:]+): n/a: (.+)", note, re.DOTALL) for note in notes)
    return {match[1].strip(): match[2].strip() for match in found if match}


def count(n: float) -> str:
    """A count in few signs: 830k, 1.25M."""
    for size, sign in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if n >= size:
            return f"{n / size:.2f}{sign}"
    return f"{n / 1e3:.0f}k" if n >= 1e4 else f"{n:.0f}"
