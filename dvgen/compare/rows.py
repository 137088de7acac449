"""Training and assessing the rows of a comparison; what is finished is never done again."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import evolve, frozen

from dvgen.assembly import build
from dvgen.compare.results import Group, Repeat, document
from dvgen.config import canonical
from dvgen.errors import ConfigError, IntegrityError, ShapeError
from dvgen.evaluation.assessment import PriorAssessment, Subject, assess_baselines, assess_prior, assess_tokenizer, code_entropy
from dvgen.evaluation.exhibits import place_for_samples, save_reconstructions, save_samples
from dvgen.experiment import Choice, Experiment, digest, table_of
from dvgen.interfaces.data import Dataset
from dvgen.interfaces.features import Features
from dvgen.sealed import seal, verify, write_json
from dvgen.training.checkpoint import load_finished
from dvgen.training.folder import TRAINING_LOCK, locked, read_json, write_status
from dvgen.training.outline import parameters
from dvgen.training.pipeline import (
    OpenData,
    Prepared,
    check_assembly,
    finish_run,
    load_run,
    open_data,
    prepare,
    start_run,
    tokenizer_folder,
)
from dvgen.training.prior import prior_config, prior_name, prior_seed
from dvgen.training.session import Session
from dvgen.training.tokenizer import tokenizer_config, tokenizer_name

ASSESSED = 2
"""Raised whenever an assessment holds other measurements than before, so that old ones are made again."""
TOKENIZERS, ROWS, RESULTS, ASSESSMENT = "tokenizers", "rows", "results.json", "assessment"

Say = Callable[[str], None]


@frozen
class Comparison:
    """A grid of resolved experiments, how often stage two is repeated on the same codes, and the folder of it all."""

    experiments: Sequence[Experiment]
    repeats: int
    folder: Path


def open_all(session: Session, experiments: Sequence[Experiment]) -> dict[str, OpenData]:
    """The data of every experiment, each set opened once, by its canonical choice.

    Raises ConfigError with the faults of all experiments whose parts do not fit each other or their data, and DataError
    when data or the weights of features are missing.
    """
    opened: dict[str, OpenData] = {}
    faults: list[str] = []
    for experiment in experiments:
        name = canonical(experiment.data)
        if name not in opened:
            opened[name] = open_data(session, experiment)
        try:
            check_assembly(session, experiment, opened[name])
            check_features(session, experiment, opened[name].dataset)
        except ConfigError as error:
            faults += str(error).splitlines()
    if faults:
        raise ConfigError("\n".join(dict.fromkeys(faults)))
    return opened


def compare_all(session: Session, comparison: Comparison, opened: dict[str, OpenData], say: Say) -> dict[str, Any]:
    """Train and assess every row, tokenizer by tokenizer, and write `results.json`; finished work is taken as it is."""
    groups: dict[str, list[Experiment]] = {}
    for experiment in comparison.experiments:
        groups.setdefault(canonical(tokenizer_config(experiment)), []).append(experiment)
    found = []
    for number, experiments in enumerate(groups.values(), start=1):
        first = experiments[0]
        data = opened[canonical(first.data)]
        say(f"tokenizer {number} of {len(groups)}: {tokenizer_name(first)} on {first.data.use}")
        found.append(_group(session, comparison, experiments, data, say))
    results = document(found, comparison.repeats)
    if session.fabric.is_global_zero:
        write_json(comparison.folder / RESULTS, results)
    return results


def evaluate_run(session: Session, folder: Path, say: Say) -> dict[str, Any]:
    """Assess one finished run, whatever was measured before, and write its `results.json`."""
    experiment, prepared, model = load_run(session, folder)
    subject = _subject(session, experiment, prepared)
    say("assessing the tokenizer, then the prior")
    with locked(folder, session.fabric.is_global_zero, TRAINING_LOCK):
        group = _assessed_group(session, experiment, subject, tokenizer_folder(folder))
        row = _assess(session, experiment, group, model, folder)
    results = document([(group, [(experiment, [row])])], repeats=1)
    if session.fabric.is_global_zero:
        write_json(folder / RESULTS, results)
    return results


def _group(
    session: Session, comparison: Comparison, experiments: Sequence[Experiment], data: OpenData, say: Say
) -> tuple[Group, list[tuple[Experiment, list[Repeat]]]]:
    """One tokenizer and all rows on its codes."""
    first, tokenizer = experiments[0], comparison.folder / TOKENIZERS / tokenizer_name(experiments[0])
    start_run(session, first, tokenizer, tokenizer)
    prepared = prepare(session, first, data, tokenizer)
    say("assessing the tokenizer")
    group = _assessed_group(session, first, _subject(session, first, prepared), tokenizer)
    rows = []
    for experiment in experiments:
        repeats = []
        for repeat in range(comparison.repeats):
            session.stop.check("finished rows are kept; the same command goes on from there")
            repeats.append(_row(session, evolve(experiment, repeat=repeat), group, prepared, comparison.folder))
        rows.append((experiment, repeats))
    return group, rows


def _features(session: Session, experiment: Experiment, dataset: Dataset) -> Features:
    """The extractor of an experiment; raises DataError when its weights are not there."""
    choice = Choice(use=experiment.evaluate.features)
    features: Features = build(session.registry, "features", choice, channels=dataset.shape[0])
    return features.eval()


def check_features(session: Session, experiment: Experiment, dataset: Dataset) -> None:
    """Raise ConfigError when the extractor cannot take these signals, and DataError when its weights are not there."""
    try:
        _features(session, experiment, dataset)(torch.zeros(1, *dataset.shape))
    except ShapeError as error:
        known = ", ".join(session.registry.names("features"))
        raise ConfigError(f"evaluate.features: {error}; choose those that take such signals, among {known}") from None


def _subject(session: Session, experiment: Experiment, prepared: Prepared) -> Subject:
    dataset = prepared.data.dataset
    features = _features(session, experiment, dataset)

    def pause() -> None:
        session.stop.check("assessing; what is trained is kept, and the same command goes on from there")

    return Subject(prepared.tokenizer, dataset, prepared.data.splits, prepared.cache, features, experiment.evaluate, pause)


def _assessed_group(session: Session, experiment: Experiment, subject: Subject, folder: Path) -> Group:
    assessment = assess_tokenizer(subject)
    if session.fabric.is_global_zero:
        place = folder / "samples" / "reconstructions"
        save_reconstructions(place, assessment.originals, assessment.reconstructed, subject.dataset)
    finished = load_finished(folder, digest(tokenizer_config(experiment)))
    return Group(
        experiment=experiment,
        subject=subject,
        assessment=assessment,
        baselines=assess_baselines(subject),
        entropy=code_entropy(subject, labels=experiment.labels),
        folder=folder,
        parameters=parameters(subject.tokenizer),
        seconds=finished.seconds,
        steps=finished.step,
    )


def _row(session: Session, experiment: Experiment, group: Group, prepared: Prepared, root: Path) -> Repeat:
    """Train one prior and assess it; an assessment under the same settings is read back."""
    folder = root / ROWS / prior_name(experiment, prepared.cache.identity.hash)
    start_run(session, experiment, folder, group.folder)
    model = finish_run(session, experiment, prepared, folder)
    known = _read_assessment(folder, _protocol(experiment, group))
    return known or _assess(session, experiment, group, model, folder)


def _protocol(experiment: Experiment, group: Group) -> dict[str, Any]:
    """What an assessment depends on, to know an old one from one that still holds."""
    table = table_of(experiment)
    features = group.subject.features
    return {
        "version": ASSESSED,
        "prior": prior_config(experiment, group.subject.cache.identity.hash),
        "evaluate": table["evaluate"],
        "features": [features.label, features.weights_hash],
    }


def _assess(session: Session, experiment: Experiment, group: Group, model: Any, folder: Path) -> Repeat:
    result = assess_prior(
        group.subject, model, group.assessment.reference, labels=experiment.labels, seed=prior_seed(experiment)
    )
    tokens = group.subject.cache.identity.hash
    finished = load_finished(folder, digest(prior_config(experiment, tokens)))
    repeat = Repeat(
        folder=folder,
        parameters=parameters(model),
        measurements=result.measurements,
        nats=result.nats,
        seconds=finished.seconds,
        steps=finished.step,
        samples_per_second=len(result.samples.signals) / max(result.samples.seconds, 1e-9),
    )

    if session.fabric.is_global_zero:
        shown = result.samples.signals[: experiment.evaluate.grid]
        place = place_for_samples(None, folder / "samples" / "samples", len(shown), group.subject.dataset)
        save_samples(place, shown, group.subject.dataset)
        _keep(repeat, result, folder, _protocol(experiment, group))
    return repeat


def _keep(repeat: Repeat, result: PriorAssessment, folder: Path, protocol: dict[str, Any]) -> None:
    """Seal an assessment, so that it need not be made again."""

    def fill(aside: Path) -> None:
        np.savez(aside / "per_image.npz", nats=repeat.nats)
        codes = {f"level_{i}": code.numpy() for i, code in enumerate(result.samples.codes)}
        np.savez(aside / "samples.npz", **codes)  # type: ignore[arg-type]
        write_json(aside / RESULTS, repeat.to_dict())

    seal(folder / ASSESSMENT, fill, {"protocol": canonical(protocol)})
    write_status(folder, "finished", stage="prior", step=repeat.steps)


def _read_assessment(folder: Path, protocol: dict[str, Any]) -> Repeat | None:
    """The assessment that was made under this protocol; None when there is none, or when it is damaged and must be redone."""
    place = folder / ASSESSMENT
    if not place.exists():
        return None
    try:
        if verify(place)["protocol"] != canonical(protocol):
            return None
    except IntegrityError as error:
        warnings.warn(f"assessed again: {error}", stacklevel=2)
        return None
    with np.load(place / "per_image.npz", allow_pickle=False) as arrays:
        nats = arrays["nats"]
    return Repeat.from_dict(read_json(place / RESULTS), folder, nats)
