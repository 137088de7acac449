"""The table of a comparison as text: its rows by budget, best first, then what counts and what bounds them."""

from collections.abc import Callable, Sequence

from attrs import field, frozen
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dvgen.report.cells import Results, count, label, reasons, value_text
from dvgen.report.likelihood_tables import Rows, by_budget

WIDTH = 118
"""Columns of text that is not shown on a terminal; a table that needs more takes more."""
WIDEST = 1000
NOTES = "¹²³⁴⁵⁶⁷⁸⁹"
DISTANCE = "fd/"
LONG = 24
"""A name of more letters has a line for each level."""


@frozen
class Entry:
    """A line of the table: a row of the results (of a budget), a baseline or a reference."""

    name: str
    measurements: Results
    row: Results | None = None
    standing: Results = field(factory=dict)
    """What `standings` says of a row."""


@frozen
class Section:
    """Lines with a rule below them; title: a line above them, empty for none."""

    title: str
    entries: Sequence[Entry]


@frozen
class Column:
    """A head and what stands in each line; a column without any text is not shown."""

    head: str
    text: Callable[[Entry], str]


def _exact(measurement: Results) -> bool:
    """Whether a likelihood is exact: neither a bound nor the length of a file."""
    return bool(measurement["key"]["protocol"].get("likelihood", "exact") == "exact")


def valued(found: Results, name: str, *, spread: bool = True) -> str:
    """A measurement as text, marked where it is only at most that much; empty where there is none."""
    if name not in found:
        return ""
    it = found[name]
    return ("" if _exact(it) else "<= ") + value_text(name, it, spread=spread and it["interval"] is not None)


def unverified(row: Results) -> str:
    """Why a row is not ranked; empty where it is."""
    checked = row.get("verification") or {"verified": False, "checks": []}
    if row["ranked"] and checked["verified"]:
        return ""
    failed = [check["number"] for check in checked["checks"] if check["passed"] is False]
    return "not verified" + (f": check {', '.join(failed)}" if failed else "")


def standings(group: Results, rows: Rows) -> list[Results]:
    """Of each row of one budget, best first: its rank and its difference to the best, as texts, where there are any.

    A rank is one more than how many are better by verdict, so rows that tie share it. Only what is measured as the best is
    has one: no bound beside an exact likelihood, and nothing that is not verified.
    """
    best = rows[0][0]
    league = [row for row, _ in rows if row["ranked"] and _key(row) == _key(best)]
    names = {row["prior"] for row in league}
    if not best["ranked"] or len(league) < 2:
        return [{} for _ in rows]
    verdicts = [v for v in group["verdicts"] if v["budget"] == best["budget"] and names.issuperset(v["pair"])]
    found: list[Results] = []
    for row, _ in rows:
        name = row["prior"]
        beaten = sum(name in v["pair"] and v["verdict"] in {f"{n} is better" for n in names - {name}} for v in verdicts)
        own = next((v for v in verdicts if {*v["pair"]} == {name, best["prior"]}), None)
        found.append({"rank": str(1 + beaten), "difference": _difference(own, name)} if row in league else {})
    return found


def _key(row: Results) -> Results:
    key: Results = row["measurements"]["nll"]["key"]
    return key


def _difference(verdict: Results | None, name: str) -> str:
    """What a row has more than the best, with half the interval of the paired differences."""
    if verdict is None or verdict["interval"] is None:
        return "-"
    sign = 1 if verdict["pair"][0] == name else -1
    low, high = verdict["interval"]
    return f"{sign * verdict['difference']:+.4f} ±{(high - low) / 2:.4f}"


def sections(group: Results, rows: Rows) -> tuple[list[Section], list[Section]]:
    """The rows by budget; and, below them, baselines and references."""
    several = len({row["budget"] for row, _ in rows}) > 1
    above = []
    for budget, own in by_budget(rows).items():
        entries = [
            Entry(_label(row), row["measurements"], row, standing)
            for (row, _), standing in zip(own, standings(group, own), strict=True)
        ]
        above.append(Section(f"budget {budget}" if several else "", entries))
    unlabelled = " (no labels)" if group["tokenizer"]["conditioning"] == "labels" else ""
    references = [Entry(one["name"], one["measurements"]) for one in group["references"]]
    prefix = "reconstruction_"
    found = group["tokenizer"]["measurements"]
    decoded = {name.removeprefix(prefix): it for name, it in found.items() if name.startswith(prefix)}
    below = [
        Section("", [Entry(one["name"] + unlabelled, one["measurements"]) for one in group["baselines"]]),
        Section("", references + ([Entry("reconstructions", decoded)] if decoded else [])),
    ]
    return above, [section for section in below if section.entries]


def _label(row: Results) -> str:
    """The prior, a long name on several lines, and why it is not ranked if it is not."""
    name = str(row["prior"])
    name = name.replace("+", "+\n") if len(name) > LONG else name
    return name if row["ranked"] else f"{name}\n  {unverified(row)}"


def likelihood_columns() -> list[Column]:
    """What is said of a prior from its likelihood."""
    return [
        Column("params", lambda entry: count(entry.row["parameters"]) if entry.row else ""),
        Column("NLL\nnats/code ↓", lambda entry: valued(entry.measurements, "nll")),
        Column("above the best\n(paired)", lambda entry: entry.standing.get("difference", "")),
        Column("rank", lambda entry: entry.standing.get("rank", "")),
        Column("verified", lambda entry: "" if not entry.row else "✗" if unverified(entry.row) else "✓"),
        Column("excess over\nthe truth ↓", lambda entry: valued(entry.measurements, "excess")),
        Column("train\ns", lambda entry: f"{entry.row['train_seconds']:.0f}" if entry.row else ""),
    ]


def sample_columns(group: Results) -> tuple[list[Column], list[str]]:
    """What is said of a prior from its samples; and footnotes, with why a distance is not there."""
    holders = [one["measurements"] for one in (*group["rows"], *group["references"])]
    names = list(dict.fromkeys(name for found in holders for name in found if name.startswith(DISTANCE)))
    columns = [_measured(name, holders) for name in names]
    footnotes = []
    for mark, (metric, reason) in zip(NOTES, reasons(group["notes"]).items(), strict=False):
        columns.append(_absent(metric, mark))
        footnotes.append(f"{mark} {metric}: n/a: {reason}")
    columns.append(Column("samples\n/s", lambda entry: f"{entry.row['samples_per_second']:.0f}" if entry.row else ""))
    others = [note for note in group["notes"] if not reasons([note])]
    return columns, footnotes + others


def _measured(name: str, holders: Sequence[Results]) -> Column:
    """The features stand on a line of their own in the head, for they have long names."""
    key = next(found[name]["key"] for found in holders if name in found)
    return Column(f"{label(key)} ↓".replace("[", "\n[", 1), lambda entry: valued(entry.measurements, name))


def _absent(metric: str, mark: str) -> Column:
    return Column(f"{metric} ↓", lambda entry: f"n/a {mark}" if entry.row else "")


def drawn(columns: Sequence[Column], parts: Sequence[Section]) -> Table | None:
    """A table of these columns, or None where no line has anything in any of them; lines without anything are left out."""
    every = [entry for part in parts for entry in part.entries]
    shown = [column for column in columns if any(column.text(entry) for entry in every)]
    if not shown:
        return None
    found = table("prior", *(column.head for column in shown))
    for part in parts:
        cells = [(entry, [column.text(entry) for column in shown]) for entry in part.entries]
        kept = [(entry, texts) for entry, texts in cells if any(texts)]
        if part.title and kept:
            found.add_row(Text(part.title, style="bold"))
        for entry, texts in kept:
            found.add_row(Text(entry.name), *texts)
        found.add_section()
    return found


def table(*columns: str) -> Table:
    """An empty table, its first column of names, the others of numbers."""
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        found.add_column(
            Text(column), justify="left" if i == 0 else "right", no_wrap=True, vertical="bottom" if i == 0 else "top"
        )
    return found


def width(one: Table, console: Console) -> int:
    """Columns of text that a table needs, so that nothing is cut off."""
    return console.measure(one, options=console.options.update(max_width=WIDEST)).maximum


def print_whole(one: Table, console: Console) -> None:
    """Numbers are never cut off: on a narrow terminal the lines wrap."""
    console.width = max(console.width, width(one, console))
    console.print(one)


def show_comparison(group: Results, rows: Rows, console: Console) -> list[str]:
    """Print one table where it fits, else one of likelihoods and one of samples; returns footnotes."""
    above, below = sections(group, rows)
    more, footnotes = sample_columns(group)
    whole = drawn([*likelihood_columns(), *more], [*above, *below])
    if whole is not None and width(whole, console) <= max(console.width, WIDTH):
        print_whole(whole, console)
        return footnotes
    for part in (drawn(likelihood_columns(), [*above, *below]), drawn(more, [*above, *below])):
        if part is not None:
            print_whole(part, console)
    return footnotes
