"""Tables of likelihoods: the priors by budget, the ladder of baselines below them, levels, excess over the truth."""

from collections.abc import Sequence

from dvgen.report.cells import NONE, Cell, Keys, Line, Results, Sheet, count, measured, value_text
from dvgen.report.marks import Mark
from dvgen.report.strip import Span, Strip

LEARNED = "nll"
MORE = ("bits_image", "bits_code", "code_rate", "nll_train", "nll_validation", "image_bound")
"""Shown beside the NLL where there are any."""
UNSURE = ("image_bound",)
"""Of those, what has an interval that the one of the NLL does not say already."""
Rows = Sequence[tuple[Results, Mark]]


def span(it: Results) -> Span:
    """A measurement for drawing: its interval, else its range over networks, else the value alone."""
    low, high = it["interval"] or it.get("range") or (it["value"], it["value"])
    return Span(it["value"], low, high)


def exact(row: Results) -> bool:
    """Whether a row's likelihood is exact, not a bound."""
    return bool(row["measurements"]["nll"]["key"]["protocol"].get("likelihood", "exact") == "exact")


def ordered(rows: Rows) -> Rows:
    """Best first; what is not ranked, and bounds, after all others."""
    return sorted(rows, key=lambda pair: (not pair[0]["ranked"], not exact(pair[0]), pair[0]["measurements"]["nll"]["value"]))


def by_budget(rows: Rows) -> dict[str, Rows]:
    """The rows of every budget, best first, in the order of the budgets."""
    return {budget: ordered([pair for pair in rows if pair[0]["budget"] == budget]) for budget in _budgets(rows)}


def _budgets(rows: Rows) -> list[str]:
    return list(dict.fromkeys(row["budget"] for row, _ in rows))


def head(row: Results, mark: Mark) -> Line:
    """The beginning of a row's line in any table: its name, and whether it may be ranked."""
    note = "" if row["ranked"] else " (not ranked)"
    told = "" if row["ranked"] else "shown, but not ranked: it is not verified, or is a bound; see the verification below"
    return Line(Cell(mark.name + note, told), (), mark.swatch)


def likelihood_sheets(rows: Rows, keys: Keys) -> list[Sheet]:
    """One table a budget: NLL as number and as plot, and what goes with it."""
    holders = [row["measurements"] for row, _ in rows]
    more = [name for name in MORE if any(name in found for found in holders)]
    sheets = []
    for budget, own in by_budget(rows).items():
        strip = Strip([span(row["measurements"]["nll"]) for row, _ in own])
        lines = [
            Line(
                begun.head,
                [*_likelihood(row, mark, strip), *(measured(row["measurements"], n, spread=n in UNSURE) for n in more)],
                begun.swatch,
            )
            for row, mark in own
            for begun in [head(row, mark)]
        ]
        columns = [
            Cell("prior"),
            _head(LEARNED, keys, holders),
            Cell("95 % interval", look="plot"),
            *(_head(n, keys, holders) for n in more),
        ]
        foot = [Cell(""), Cell(""), Cell("", plot=strip.axis()), *(Cell("") for _ in more)]
        sheets.append(Sheet(f"Budget {budget}", columns, lines, foot))
    return sheets


def _head(name: str, keys: Keys, holders: Sequence[Results]) -> Cell:
    """Likelihoods of other splits have the same metric, so their column is called by the split."""
    found = keys.head(name, holders)
    named = {
        "nll": "NLL nats/code\N{NO-BREAK SPACE}↓",
        "nll_train": "training NLL\N{NO-BREAK SPACE}↓",
        "nll_validation": "validation NLL\N{NO-BREAK SPACE}↓",
        "image_bound": "image bound\N{NO-BREAK SPACE}↓",
    }
    return Cell(named.get(name, found.text), found.title, link=found.link)


def _likelihood(row: Results, mark: Mark, strip: Strip) -> list[Cell]:
    it = row["measurements"]["nll"]
    cell = measured(row["measurements"], "nll")
    plot = strip.dot(span(it), mark, f"{mark.name}: {cell.text} nats/code; {cell.title}")
    return [cell, Cell("", plot=plot)]


def spent_sheet(rows: Rows) -> Sheet:
    """What every row cost: the four budgets, parameters, and the time that a sample takes."""
    columns = ["prior", "parameters", "steps", "codes seen", "training FLOPs", "training seconds", "samples/s"]
    lines = []
    for own in by_budget(rows).values():
        for row, mark in own:
            spent = row["budget_spent"]
            cells = [Cell(count(row["parameters"]), str(row["parameters"]))]
            cells += [Cell(count(spent[axis]), f"{spent[axis]:g}") for axis in ("steps", "codes", "flops")]
            cells += [Cell(f"{spent['seconds']:.4g}"), Cell(f"{row['samples_per_second']:.4g}")]
            lines.append(Line(head(row, mark).head, cells, mark.swatch))
    return Sheet("", [Cell(name) for name in columns], lines)


def ladder_sheet(group: Results, rows: Rows, keys: Keys) -> Sheet:
    """Priors, baselines and the exact entropy on one scale, best first: what counting alone reaches."""
    entries: list[tuple[Results, str, Mark | None]] = [(row["measurements"], mark.name, mark) for row, mark in rows]
    unlabelled = " (no labels)" if group["tokenizer"]["conditioning"] == "labels" else ""
    entries += [(b["measurements"], b["name"] + unlabelled, None) for b in group["baselines"] if LEARNED in b["measurements"]]
    entries.sort(key=lambda entry: entry[0][LEARNED]["value"])
    floor = entropy(group["tokenizer"])
    strip = Strip([span(found[LEARNED]) for found, _, _ in entries], [] if floor is None else [floor])
    lines = []
    for found, name, mark in entries:
        cell = measured(found, LEARNED)
        plot = strip.dot(span(found[LEARNED]), mark, f"{name}: {cell.text} nats/code; {cell.title}")
        cells = [cell, Cell("", plot=plot), measured(found, "bits_image", spread=False)]
        lines.append(Line(Cell(name), cells, mark.swatch if mark else None))
    if floor is not None:
        told = "no prior can be below it: the entropy of what the codes are drawn from"
        lines.insert(0, Line(Cell("exact entropy (dashed line)", told), [Cell(f"{floor:.4f}"), Cell(""), Cell(NONE)]))
    holders = [found for found, _, _ in entries]
    columns = [
        Cell("model"),
        _head(LEARNED, keys, holders),
        Cell("95 % interval", look="plot"),
        keys.head("bits_image", holders),
    ]
    return Sheet("", columns, lines, [Cell(""), Cell(""), Cell("", plot=strip.axis()), Cell("")])


def entropy(tokenizer: Results) -> float | None:
    """The exact entropy in nats/code, where it is known."""
    total = tokenizer["entropy_nats_per_image"]
    return None if total is None else float(total / tokenizer["codes_per_image"])


def level_sheet(group: Results, rows: Rows) -> Sheet | None:
    """The likelihood of every level by itself; nothing where there is one level."""
    levels = [level["name"] for level in group["tokenizer"]["levels"]]
    if len(levels) < 2:
        return None
    columns = [Cell("model"), *(Cell(f"{level} {unit} ↓") for level in levels for unit in ("nats/code", "bits/image"))]
    entries = [(head(row, mark), row["measurements"]) for row, mark in ordered(rows)]
    entries += [(Line(Cell(b["name"]), (), apart=i == 0), b["measurements"]) for i, b in enumerate(group["baselines"])]
    names = [f"{name}/{level}" for level in levels for name in ("nll", "bits_image")]
    lines = [
        Line(begun.head, [measured(found, name, spread=name.startswith(LEARNED)) for name in names], begun.swatch, begun.apart)
        for begun, found in entries
    ]
    return Sheet("", columns, lines)


def excess_sheet(rows: Rows, keys: Keys) -> Sheet | None:
    """Bars of the excess over the exact log-probability; nothing where that is not known."""
    known = [(row, mark) for row, mark in rows if "excess" in row["measurements"]]
    if not known:
        return None
    strip = Strip([span(row["measurements"]["excess"]) for row, _ in known], [0.0])
    lines = []
    for row, mark in sorted(known, key=lambda pair: pair[0]["measurements"]["excess"]["value"]):
        cell = measured(row["measurements"], "excess")
        it = row["measurements"]["excess"]
        plot = strip.bar(span(it), mark, f"{mark.name}: {value_text('excess', it)} nats/code above the truth")
        lines.append(Line(head(row, mark).head, [cell, Cell("", plot=plot)], mark.swatch))
    columns = [
        Cell("prior"),
        keys.head("excess", [row["measurements"] for row, _ in known]),
        Cell("0 is the truth", look="plot"),
    ]
    return Sheet("", columns, lines, [Cell(""), Cell(""), Cell("", plot=strip.axis())])
