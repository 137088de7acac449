"""Everything a comparison needs, opened before anything is trained: data, sources of codes, spaces of features."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import torch
from attrs import frozen

from dvgen.code_model import assemble_code_model
from dvgen.config import canonical
from dvgen.errors import ConfigError
from dvgen.evaluation.extractors import Opened, open_features
from dvgen.experiment import Experiment
from dvgen.interfaces.codes import Level
from dvgen.interfaces.data import CodeSource
from dvgen.interfaces.features import Features
from dvgen.tokenizer import assemble_tokenizer
from dvgen.training.budget import check_division
from dvgen.training.pipeline import OpenData, check_assembly, open_data
from dvgen.training.session import Session
from dvgen.training.truth import open_truth


@frozen
class OpenSignals:
    """A data set, and the spaces of features in which its signals are compared."""

    data: OpenData
    features: Opened


Openings = Mapping[str, OpenSignals | CodeSource]
"""By the canonical text of data and features."""


def opening_name(experiment: Experiment) -> str:
    """Under what the data of an experiment are kept, once they are open."""
    return canonical([canonical(experiment.data), experiment.evaluate.features])


def open_all(session: Session, experiments: Sequence[Experiment]) -> Openings:
    """The data of every experiment, each set opened once.

    Raises ConfigError with the faults of all experiments whose parts do not fit each other or their data, and DataError
    when data or the weights of features that were named are missing.
    """
    opened: dict[str, OpenSignals | CodeSource] = {}
    faults: list[str] = []
    for experiment in experiments:
        name = opening_name(experiment)
        try:
            if name not in opened:
                opened[name] = open_one(session, experiment)
            check(session, experiment, opened[name])
        except ConfigError as error:
            faults += str(error).splitlines()
    if faults:
        raise ConfigError("\n".join(dict.fromkeys(faults)))
    return opened


def open_one(session: Session, experiment: Experiment) -> OpenSignals | CodeSource:
    """The data of one experiment; raises as `open_all`."""
    if experiment.data.truth:
        return open_truth(session, experiment)
    return open_spaces(session, experiment, open_data(session, experiment))


def open_spaces(session: Session, experiment: Experiment, data: OpenData) -> OpenSignals:
    """The spaces of features of these data, those that must be learned not yet learned; raises as `open_all`."""

    def pause() -> None:
        session.stop.check("opening; nothing was written")

    names = experiment.evaluate.features
    opened = open_features(session.registry, names, data.dataset.shape, pause)
    if names:
        for features in opened.spaces.values():
            _check_learning(features, data)
    return OpenSignals(data, opened)


class _Begun(Exception):
    """Raised where learning would go on: these data can be learned from."""


def _check_learning(features: Features, data: OpenData) -> None:
    """Raise ConfigError when features cannot learn from these data: told now, and not when a tokenizer has been trained."""

    def begun() -> None:
        raise _Begun

    if features.learned:
        with suppress(_Begun):
            features.fit(data.dataset, data.splits["train"], begun)


def check(session: Session, experiment: Experiment, opened: OpenSignals | CodeSource) -> None:
    """Raise ConfigError when the parts of an experiment do not fit each other or these data."""
    if isinstance(opened, OpenSignals):
        check_assembly(session, experiment, opened.data)
        return
    if experiment.labels:
        raise ConfigError(f"--labels with --data truth:{experiment.data.use}: a source of codes has no labels; leave them out")
    assemble_code_model(session.registry, experiment, opened.levels, 0)
    check_division(experiment.train.prior, session.fabric.world_size)


def codes_of(session: Session, experiment: Experiment, opened: OpenSignals | CodeSource) -> tuple[tuple[Level, ...], int]:
    """The levels that an experiment's priors model, and how many classes they are conditioned on (0: none)."""
    if isinstance(opened, CodeSource):
        return opened.levels, 0
    dataset = opened.data.dataset
    with torch.device("meta"):
        tokenizer = assemble_tokenizer(session.registry, experiment, dataset.shape)
    return tokenizer.levels, len(dataset.classes) if experiment.labels else 0
