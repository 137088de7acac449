"""Training, assessing and verifying the rows of a comparison; what is finished is never done again."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from dvgen.code_model import CodeModel
from dvgen.compare.results import Group, Repeat
from dvgen.compare.schema import RESULTS
from dvgen.config import canonical
from dvgen.errors import IntegrityError
from dvgen.evaluation.assessment import PriorAssessment, assess_prior
from dvgen.evaluation.exhibits import NEIGHBOURS, place_for_samples, save_neighbours, save_samples
from dvgen.evaluation.memorisation import nearest
from dvgen.evaluation.pixels import write_pixels
from dvgen.evaluation.sounds import sampling_rate
from dvgen.evaluation.subject import TEST, Signals
from dvgen.experiment import Experiment, digest, table_of
from dvgen.sealed import seal, verify, write_json
from dvgen.training.checkpoint import load_finished
from dvgen.training.folder import read_json, write_status
from dvgen.training.outline import parameters
from dvgen.training.pipeline import finish_run, start_run
from dvgen.training.prior import prior_config, prior_name, prior_seed
from dvgen.training.session import Session
from dvgen.verify.checks import Check, Verification
from dvgen.verify.prior import verify_component
from dvgen.verify.trained import verify_trained

ASSESSED = 4
"""Raised whenever an assessment holds other measurements than before, so that old ones are made again."""
ROWS, ASSESSMENT = "rows", "assessment"


@frozen
class Proved:
    """What is known of the classes of priors: the checks of each, by name, made once a command."""

    checks: dict[str, tuple[Check, ...]]

    def of(self, session: Session, experiment: Experiment) -> tuple[Check, ...]:
        """The checks of all priors of an experiment."""
        for choice in experiment.prior:
            if choice.use not in self.checks:
                self.checks[choice.use] = verify_component(session.registry, choice)
        return tuple(check for use in dict.fromkeys(choice.use for choice in experiment.prior) for check in self.checks[use])


def trained_row(session: Session, experiment: Experiment, group: Group, proved: Proved, root: Path) -> Repeat:
    """Train one prior and assess it; an assessment under the same settings is read back."""
    cache = group.subject.cache
    folder = root / ROWS / prior_name(experiment, cache.identity.hash)
    start_run(session, experiment, folder, group.folder)
    model = finish_run(session, experiment, cache, folder)
    known = _read_assessment(folder, _protocol(experiment, group))
    return known or assessed_row(session, experiment, group, model, proved, folder)


def assessed_row(
    session: Session, experiment: Experiment, group: Group, model: CodeModel, proved: Proved, folder: Path
) -> Repeat:
    """Assess and verify one trained prior, and keep what was found."""
    subject = group.subject
    result = assess_prior(subject, model, group.assessment, labels=experiment.labels, seed=prior_seed(experiment))
    finished = load_finished(folder, digest(prior_config(experiment, subject.cache.identity.hash)))
    repeat = Repeat(
        folder=folder,
        parameters=parameters(model),
        measurements=result.measurements,
        nats=result.nats,
        spent=finished.spent,
        samples_per_second=subject.n / max(result.samples.seconds, 1e-9),
        verification=_verified(session, experiment, group, model, proved),
    )
    if session.fabric.is_global_zero:
        if subject.signals is not None:
            _show(result, group, subject.signals, folder / "samples")
        _keep(repeat, result, group, folder, _protocol(experiment, group))
    return repeat


def _verified(session: Session, experiment: Experiment, group: Group, model: CodeModel, proved: Proved) -> Verification:
    """The checks of the prior's class, and those of this very prior on codes of the test split."""
    subject, maps = group.subject, experiment.evaluate.maps
    if not maps:
        return Verification(())
    labels = subject.cache.labels(TEST, subject.first(TEST)) if experiment.labels else None
    trained = verify_trained(model, subject.codes(TEST), labels, maps, subject.pause)
    return Verification((*proved.of(session, experiment), *trained))


def _protocol(experiment: Experiment, group: Group) -> dict[str, Any]:
    """What an assessment depends on, to know an old one from one that still holds."""
    signals = group.subject.signals
    spaces = {} if signals is None else {name: (f.label, f.weights_hash) for name, f in signals.spaces.items()}
    return {
        "version": ASSESSED,
        "prior": prior_config(experiment, group.subject.cache.identity.hash),
        "evaluate": table_of(experiment)["evaluate"],
        "features": spaces,
    }


def _show(result: PriorAssessment, group: Group, signals: Signals, folder: Path) -> None:
    """Uncurated samples as pictures or sounds, and the first of them above their nearest training signals."""
    drawn = result.samples.signals
    assert drawn is not None
    shown = drawn[: group.subject.settings.grid]
    save_samples(place_for_samples(None, folder / "samples", len(shown), signals.dataset), shown, signals.dataset)
    train = group.assessment.references.train_signals
    if not result.features or train is None:
        return
    space = next(iter(result.features))
    near = nearest(result.features[space][:NEIGHBOURS], group.assessment.references.train[space])
    save_neighbours(folder / "neighbours", drawn[:NEIGHBOURS], train[near], signals.dataset)


def _keep(repeat: Repeat, result: PriorAssessment, group: Group, folder: Path, protocol: dict[str, Any]) -> None:
    """Seal an assessment, so that it need not be made again."""

    def fill(aside: Path) -> None:
        np.savez(aside / "per_image.npz", nats=repeat.nats)
        np.savez(aside / "per_position.npz", **_by_level(result.per_position))
        np.savez(aside / "samples.npz", **_by_level([code.numpy() for code in result.samples.codes]))
        signals = group.subject.signals
        if signals is not None and result.samples.signals is not None:
            write_pixels(aside / "pixels.npz", result.samples.signals, sampling_rate(signals.dataset))
        write_json(aside / RESULTS, repeat.to_dict())

    seal(folder / ASSESSMENT, fill, {"protocol": canonical(protocol)})
    write_status(folder, "finished", stage="prior", step=repeat.spent.steps)


def _by_level(arrays: Any) -> dict[str, Any]:
    return {f"level_{i}": array for i, array in enumerate(arrays)}


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
