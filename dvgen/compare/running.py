"""A comparison from beginning to end: every group, every row, and the files of its results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from dvgen.compare.export import write_exports
from dvgen.compare.groups import Coded, Say, assessed_group, code, folder_name, group_name
from dvgen.compare.opening import Openings, open_spaces, opening_name
from dvgen.compare.results import Group, Repeat, document
from dvgen.compare.rows import Proved, assessed_row, trained_row
from dvgen.compare.schema import RESULTS
from dvgen.compare.waivers import waiver_notes
from dvgen.experiment import Experiment
from dvgen.sealed import write_json
from dvgen.training.folder import TRAINING_LOCK, locked
from dvgen.training.pipeline import load_run, tokenizer_folder
from dvgen.training.session import Session
from dvgen.training.tokenizer import tokenizer_name

TOKENIZERS = "tokenizers"


@frozen
class Comparison:
    """A grid of resolved experiments, how often stage two is repeated on the same codes, and the folder of it all."""

    experiments: Sequence[Experiment]
    repeats: int
    folder: Path


def compare_all(session: Session, comparison: Comparison, opened: Openings, say: Say) -> dict[str, Any]:
    """Train and assess every row, table by table, and write the results; finished work is taken as it is."""
    groups: dict[str, list[Experiment]] = {}
    for experiment in comparison.experiments:
        groups.setdefault(group_name(experiment), []).append(experiment)
    proved, found = Proved({}), []
    for number, experiments in enumerate(groups.values(), start=1):
        first = experiments[0]
        what = f"codes of {first.data.use}" if first.data.truth else f"{tokenizer_name(first)} on {first.data.use}"
        say(f"table {number} of {len(groups)}: {what}")
        found.append(_group(session, comparison, experiments, opened, proved, say))
    results = document(found, comparison.repeats, comparison.folder)
    if session.fabric.is_global_zero:
        write_json(comparison.folder / RESULTS, results)
        write_exports(comparison.folder, results)
    return results


def evaluate_run(session: Session, folder: Path, features: tuple[str, ...] | None, say: Say) -> dict[str, Any]:
    """Assess one finished run, whatever was measured before, and write its `results.json`.

    features: spaces that must be measured; None: those of its experiment.
    """
    experiment, prepared, model = load_run(session, folder)
    if features is not None:
        experiment = evolve(experiment, evaluate=evolve(experiment.evaluate, features=features))
    opened = open_spaces(session, experiment, prepared.data)
    say("assessing the tokenizer, then the prior")
    with locked(folder, session.fabric.is_global_zero, TRAINING_LOCK):
        coded = Coded(prepared.cache, prepared.tokenizer)
        group = assessed_group(session, experiment, coded, opened, tokenizer_folder(folder))
        row = assessed_row(session, experiment, group, model, Proved({}), folder)
    group = _with_waivers(session, group, [experiment])
    results = document([(group, [(experiment, [row])])], repeats=1, root=folder)
    if session.fabric.is_global_zero:
        write_json(folder / RESULTS, results)
        write_exports(folder, results)
    return results


def _group(
    session: Session, comparison: Comparison, experiments: Sequence[Experiment], opened: Openings, proved: Proved, say: Say
) -> tuple[Group, list[tuple[Experiment, list[Repeat]]]]:
    """One table: a tokenizer, or a source of codes, and all rows on its codes."""
    first = experiments[0]
    folder, data = comparison.folder / TOKENIZERS / folder_name(first), opened[opening_name(first)]
    coded = code(session, first, data, folder)
    say("assessing the codes" if coded.tokenizer is None else "assessing the tokenizer")
    group = assessed_group(session, first, coded, data, folder)
    rows = []
    for experiment in experiments:
        found = []
        for repeat in range(comparison.repeats):
            session.stop.check("finished rows are kept; the same command goes on from there")
            found.append(trained_row(session, evolve(experiment, repeat=repeat), group, proved, comparison.folder))
        rows.append((experiment, found))
    return _with_waivers(session, group, experiments), rows


def _with_waivers(session: Session, group: Group, experiments: Sequence[Experiment]) -> Group:
    signals = group.subject.signals
    notes = waiver_notes(session.registry, experiments, () if signals is None else signals.spaces)
    return evolve(group, notes=(*group.notes, *notes))
