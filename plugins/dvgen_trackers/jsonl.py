"""`metrics.jsonl` in the run folder: one JSON object a logged step or a notice, always on, no server."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dvgen import hookimpl

if TYPE_CHECKING:
    from dvgen.hookspecs import Run

NAME = "metrics.jsonl"


@hookimpl
def dvgen_run_started(run: "Run") -> None:
    """Drop the lines of steps that will be done again, and a last line that a crash tore."""
    path = run.folder / NAME
    if not path.exists():
        return
    kept = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if _step(line) <= run.step]
    aside = path.with_suffix(".tmp")
    aside.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    aside.replace(path)


@hookimpl
def dvgen_step(run: "Run", step: int, values: Mapping[str, float]) -> None:
    """Append one line."""
    _append(run.folder / NAME, {"step": step, **values})


@hookimpl
def dvgen_notice(run: "Run", step: int, text: str) -> None:
    """Append one line, among those of the steps."""
    _append(run.folder / NAME, {"step": step, "notice": text})


def _append(path: Path, record: Mapping[str, float | str]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
