"""Tables of what is measured of samples: distances by extractor, and everything else there is."""

from collections.abc import Iterable, Sequence

from dvgen.report.cells import Cell, Keys, Line, Results, Sheet, measured, reasons
from dvgen.report.likelihood_tables import MORE, Rows, head, ordered

DISTANCE = "fd"
PER_EXTRACTOR = (
    "fd", "fd_infinity", "kd", "precision", "recall", "density", "coverage", "memorised", "prior_gap",
    "reconstruction_fd", "reconstruction_kd",
)  # fmt: skip
LIKELIHOODS = frozenset({"nll", "excess", *MORE})


def extractors(group: Results) -> list[str]:
    """The extractors that anything of a group was measured with, in the order in which they come."""
    holders = [holder["measurements"] for holder in (*group["rows"], *group["references"])]
    named = (name.partition("/") for found in holders for name in found)
    return list(dict.fromkeys(feature for kind, _, feature in named if kind in PER_EXTRACTOR and feature))


def distance_sheet(group: Results, rows: Rows, keys: Keys) -> Sheet | None:
    """The Frechet distances of all extractors side by side; a column of n/a for each that was not possible."""
    names = [f"{DISTANCE}/{feature}" for feature in extractors(group)]
    why = reasons(group["notes"])
    if not names and not why:
        return None
    sheet = _sheet(group, rows, keys, names)
    absent = [label for label in why if not any(column.text.startswith(label) for column in sheet.columns[1:])]
    lines = [
        Line(line.head, [*line.cells, *(Cell("n/a", why[label], look="na") for label in absent)], line.swatch, line.apart)
        for line in sheet.lines
    ]
    columns = [*sheet.columns, *(Cell(label, why[label]) for label in absent)]
    return Sheet("", columns, lines, notes=[f"{label}: n/a: {reason}" for label, reason in why.items()])


def extractor_sheets(group: Results, rows: Rows, keys: Keys) -> list[Sheet]:
    """One table an extractor, of all that was measured with it, where that is more than one distance."""
    sheets = []
    for feature in extractors(group):
        names = _present(group, (f"{kind}/{feature}" for kind in PER_EXTRACTOR))
        if len(names) > 1:
            sheets.append(_sheet(group, rows, keys, names, f"With the features {feature}"))
    return sheets


def other_sheet(group: Results, rows: Rows, keys: Keys) -> Sheet | None:
    """What no other table shows: tests in the space of codes, duplicates, the gap to the prior's own samples."""
    all_names = dict.fromkeys(name for holder in (*group["rows"], *group["references"]) for name in holder["measurements"])
    kinds = {name: name.partition("/")[0] for name in all_names}
    names = [name for name, kind in kinds.items() if kind not in LIKELIHOODS and kind not in PER_EXTRACTOR]
    return _sheet(group, rows, keys, names) if names else None


def tokenizer_sheet(group: Results, keys: Keys) -> Sheet | None:
    """Everything that was measured of the tokenizer, one line a measurement."""
    found = group["tokenizer"]["measurements"]
    if not found:
        return None
    lines = []
    for name in found:
        told = keys.head(name, [found])
        lines.append(Line(Cell(_of_level(name, told.text, group), told.title, link=told.link), [measured(found, name)]))
    return Sheet("", [Cell("measurement"), Cell("value")], lines)


def _of_level(name: str, text: str, group: Results) -> str:
    level = name.partition("/")[2]
    names = [level["name"] for level in group["tokenizer"]["levels"]]
    told = f"{text} of the reconstructions" if name.startswith("reconstruction_") else text
    return f"{told}, level {level}" if level in names and len(names) > 1 else told


def _present(group: Results, names: Iterable[str]) -> list[str]:
    holders = [holder["measurements"] for holder in (*group["rows"], *group["references"])]
    return [name for name in names if any(name in found for found in holders)]


def _sheet(group: Results, rows: Rows, keys: Keys, names: Sequence[str], title: str = "") -> Sheet:
    """Rows, best first, then the references, which say what the numbers of the rows mean."""
    references = [(Line(Cell(r["name"]), (), apart=i == 0), r["measurements"]) for i, r in enumerate(group["references"])]
    entries = [(head(row, mark), row["measurements"]) for row, mark in ordered(rows)] + references
    holders = [found for _, found in entries]
    columns = [Cell("samples of"), *(_column(name, group, keys, holders) for name in names)]
    lines = [
        Line(begun.head, [measured(found, name) for name in names], begun.swatch, begun.apart)
        for begun, found in entries
        if begun.swatch is not None or any(name in found for name in names)
    ]
    return Sheet(title, columns, lines)


def _column(name: str, group: Results, keys: Keys, holders: Sequence[Results]) -> Cell:
    told = keys.head(name, holders)
    levels = [level["name"] for level in group["tokenizer"]["levels"]]
    level = name.partition("/")[2]
    return Cell(f"{told.text} {level}", told.title, link=told.link) if level in levels and len(levels) > 1 else told
