"""What samples are compared with, made once for all priors of a tokenizer: features of real signals, and the rows that bound
what a prior can reach."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from dvgen.evaluation.baselines import unigram_samples
from dvgen.evaluation.classification import classification_accuracy
from dvgen.evaluation.code_space import code_measurements
from dvgen.evaluation.distances import distances
from dvgen.evaluation.frechet import feature_table
from dvgen.evaluation.measurement import Measurement
from dvgen.evaluation.subject import TEST, TRAIN, VALIDATION, Signals, Subject, decoded
from dvgen.interfaces.codes import Codes
from dvgen.seeding import fold

Measurements = dict[str, Measurement]
Tables = Mapping[str, Tensor]
"""Features (n, members * dim) float64 by the name of their space."""

ORACLE, REAL, UNIGRAM = "oracle codes", "real against real", "unigram samples"
"""Decoded held-out codes: the best a prior can do. Held-out signals: the best a tokenizer can do. Draws of the unigram: the
least to expect of a prior."""


class References(NamedTuple):
    """test: features to which distances are measured; train: of as many training signals; rows: measurements by row.

    train_signals: (n, channels, *size), those of `train`. labels: of the test signals and of the training signals.
    """

    test: Tables
    train: Tables
    rows: dict[str, Measurements]
    train_signals: Tensor | None


def tables(subject: Subject, signals: Tensor) -> Tables:
    """The features of signals in every space: one pass for all metrics."""
    assert subject.signals is not None
    return {
        name: feature_table(features, (signals[batch] for batch in subject.batches(torch.arange(len(signals)))))
        for name, features in subject.signals.spaces.items()
    }


def sample_distances(subject: Subject, test: Tables, measured: Tables, about: Mapping[str, str]) -> Measurements:
    """Every distance in every space, of features `measured` to those of the test signals; about: how they were drawn."""
    assert subject.signals is not None
    found: Measurements = {}
    for name, features in subject.signals.spaces.items():
        found |= distances(
            name,
            features,
            test[name],
            measured[name],
            about,
            reference_id=subject.signals.reference,
            bits=subject.signals.bits,
        )
    return found


def code_distances(subject: Subject, codes: Codes, about: Mapping[str, str]) -> Measurements:
    """How codes differ from as many of the test split."""
    cache = subject.cache
    return code_measurements(cache.levels, codes, subject.codes(TEST), cache.identity.hash, about, subject.pause)


def references(subject: Subject, *, labels: bool) -> References:
    """The features of real signals and the rows that bound what a prior can reach."""
    held_out = subject.codes(VALIDATION)
    drawn = unigram_samples(subject.cache.levels, subject.cache.codes(TRAIN), subject.n, fold(0, "unigram samples"))
    rows = {ORACLE: code_distances(subject, held_out, {"source": ORACLE}), REAL: {}}
    rows[UNIGRAM] = code_distances(subject, drawn, {"source": UNIGRAM})
    if subject.signals is None:
        del rows[REAL]
        return References({}, {}, rows, None)
    signals = {split: _signals(subject, subject.signals, split) for split in (TEST, VALIDATION, TRAIN)}
    test, train = tables(subject, signals[TEST]), tables(subject, signals[TRAIN])
    measured = {REAL: signals[VALIDATION], ORACLE: decoded(subject, held_out), UNIGRAM: decoded(subject, drawn)}
    for name, these in measured.items():
        rows[name] |= sample_distances(subject, test, tables(subject, these), {"source": name})
    if labels and subject.signals.bits == 8:
        rows[REAL]["cas"] = accuracy_on_test(subject, signals[TRAIN], subject.cache.labels(TRAIN, subject.first(TRAIN)))
    return References(test, train, {name: row for name, row in rows.items() if row}, signals[TRAIN])


def accuracy_on_test(subject: Subject, signals: Tensor, labels: Tensor, about: str = "real") -> Measurement:
    """Accuracy on the test signals of a classifier that saw only these signals (n, channels, h, w) and labels (n,)."""
    assert subject.signals is not None
    return classification_accuracy(
        signals,
        labels,
        _signals(subject, subject.signals, TEST),
        subject.cache.labels(TEST, subject.first(TEST)),
        classes=len(subject.signals.dataset.classes),
        pause=subject.pause,
        trained_on=about,
        reference=subject.signals.reference,
    )


def _signals(subject: Subject, signals: Signals, split: str) -> Tensor:
    return torch.cat([signals.of(split, batch) for batch in subject.batches(subject.first(split))])
