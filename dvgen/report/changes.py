"""What has changed between two comparisons, as text for a terminal or a pipe."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

Document = Mapping[str, Any]
HEADS = ("", "A", "B", "B - A", "95 % interval", "B is")
SHOWN = 8
"""Lines about what only one of the two has; of more, how many."""


def show_changes(document: Document, console: Console) -> None:
    """One table a tokenizer; then what was equal, what was measured in two ways, and what only one of the two has.

    document: the plain tables of a difference, with `a` and `b`, the names of the two.
    """
    changes = document["changes"]
    shown = [change for change in changes if change["verdict"] != "equal"]
    for side in ("a", "b"):
        console.print(f"{side.upper()}: {document[side]}", markup=False, highlight=False, soft_wrap=True)
    for group, ones in itertools.groupby(shown, key=lambda change: change["group"]):
        console.print(group, markup=False, highlight=False)
        _show_group(list(ones), console)
    for line in _notes(document, len(changes) - len(shown)):
        console.print(line, markup=False, highlight=False)


def _show_group(changes: Sequence[Document], console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, head in enumerate(HEADS):
        table.add_column(Text(head), justify="left" if i in (0, len(HEADS) - 1) else "right", no_wrap=True)
    for label, ones in itertools.groupby(changes, key=_label):
        table.add_row(Text(label, style="bold"))
        for change in ones:
            table.add_row(*map(Text, _row(change)))
    needed = console.measure(table, options=console.options.update(max_width=1000)).maximum
    console.width = max(console.width, needed)  # numbers are never cut off: on a narrow terminal the lines wrap
    console.print(table)


def _label(change: Document) -> str:
    named = f"{change['name']} {change['budget']}" if change["budget"] else change["name"]
    return named if change["kind"] == "prior" else f"{change['kind']}: {named}"


def _row(change: Document) -> list[str]:
    key, interval = change["a"]["key"], change["interval"]
    digits = _digits(change)
    unit = (
        key["unit"] if key["unit"] not in ("", key["metric"]) or change["metric"].partition("/")[0] in ("nll", "excess") else ""
    )
    arrow = "↑" if key["higher_is_better"] else "↓"
    ends = "" if interval is None else f"[{interval[0]:+.{digits}f}, {interval[1]:+.{digits}f}]"
    values = [f"{change[side]['value']:.{digits}f}" for side in ("a", "b")]
    verdict = "not sure: no interval" if change["verdict"] == "unsure" else change["verdict"]
    named = " ".join(part for part in (f"  {change['metric']}", unit, arrow) if part)
    return [named, *values, f"{change['difference']:+.{digits}f}", ends, verdict]


def _digits(change: Document) -> int:
    """Decimals that show two digits of the interval's half width, or four of the greater value."""
    if change["interval"] is not None and (width := change["interval"][1] - change["interval"][0]) > 0:
        return _decimals(width / 2, 2)
    return _decimals(max(abs(change[side]["value"]) for side in ("a", "b")), 4)


def _decimals(number: float, digits: int) -> int:
    return 0 if number == 0 else min(8, max(0, digits - 1 - math.floor(math.log10(number))))


def _notes(document: Document, equal: int) -> Iterator[str]:
    """How the verdicts were made, and everything that the tables do not show."""
    changes = document["changes"]
    if equal:
        yield f"Equal in both: {equal} of {len(changes)} values."
    paired = sum(change["pairing"] == "images" for change in changes)
    if any(change["interval"] for change in changes):
        yield (
            f"Intervals: 95 %, of one value by itself; {paired} of {len(changes)} are paired by image, the others taken for "
            "independent. Better, worse: p < 0.05 after Holm over all that has this measurement (priors, or baselines)."
        )
    yield from (f"Not compared: {text}." for text in document["incomparable"])
    for side in ("a", "b"):
        only = document[f"only_{side}"]
        yield from (f"Only in {side.upper()}: {text}." for text in only[:SHOWN])
        if len(only) > SHOWN:
            yield f"Only in {side.upper()}: {len(only) - SHOWN} more (--json lists them)."
