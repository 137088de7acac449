"""What stands behind the numbers: checks of the priors, protocols, the machine, the settings."""

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dvgen.report.cells import Cell, Keys, Line, Results, Sheet, described, label
from dvgen.report.likelihood_tables import Rows

SIGNS = {True: "✓ passed", False: "✗ failed", None: "– n/a"}
LOOKS = {True: "good", False: "bad", None: "na"}


def verification_sheet(rows: Rows) -> Sheet | None:
    """Checks (lines) by priors (columns); what failed is told in words below."""
    known = [(row["verification"], mark) for row, mark in rows if row.get("verification")]
    if not known:
        return None
    tables = [{check["number"]: check for check in found["checks"]} for found, _ in known]
    names = {number: check["name"] for table in tables for number, check in table.items()}
    lines = [Line(Cell(f"{number} {name}"), [_check(table.get(number)) for table in tables]) for number, name in names.items()]
    told = [(mark.name, check) for (_, mark), table in zip(known, tables, strict=True) for check in table.values()]
    notes = [f"{name}, check {check['number']}: {check['detail']}" for name, check in told if check["passed"] is False]
    return Sheet("", [Cell("check"), *(Cell(mark.name) for _, mark in known)], lines, notes=notes)


def _check(check: Results | None) -> Cell:
    if check is None:
        return Cell("–", "not checked", look="na")
    return Cell(SIGNS[check["passed"]], check["detail"], look=LOOKS[check["passed"]])


def figures(rows: Rows) -> list[tuple[str, list[str]]]:
    """What every check of every row found, in words."""
    return [
        (mark.name, [f"{c['number']} {c['name']}: {c['detail']}" for c in row["verification"]["checks"]])
        for row, mark in rows
        if row.get("verification")
    ]


def key_list(keys: Keys) -> list[tuple[str, str, str]]:
    """Of every protocol its name on the page, its label and all of it."""
    return [(name, label(key), described(key)) for name, key in keys.known.values()]


def facts(results: Results) -> list[tuple[str, str]]:
    """What the numbers were made with, as names and values."""
    return list(_flat("", results["environment"]))


def command_line(results: Results) -> str:
    """The command, as it can be given again: without the place of the program on the machine it ran on."""
    program, *arguments = results["command"]
    name = Path(program).name
    return shlex.join([*(["python", "-m", "dvgen"] if name == "__main__.py" else [name]), *arguments])


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name} {key}".strip(), inner)
    else:
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        yield name, text if value not in (None, [], "") else "none"


def settings(group: Results, rows: Rows) -> list[tuple[str, str]]:
    """The whole experiment of every row, as JSON."""
    return [(mark.name, json.dumps(row["experiment"], indent=1, ensure_ascii=False)) for row, mark in rows]
