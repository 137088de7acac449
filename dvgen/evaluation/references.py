"""What samples are compared with, made once for all priors of a tokenizer: features of real signals, and the rows that bound
what a prior can reach."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from dvgen.evaluation.baselines import most_counted, unigram_samples
from dvgen.evaluation.classification import Labelled, classification_accuracy
from dvgen.evaluation.code_space import code_measurements
from dvgen.evaluation.distances import distances
from dvgen.evaluation.frechet import feature_table
from dvgen.evaluation.measurement import Measurement
from dvgen.evaluation.memorisation import duplicates, memorised
from dvgen.evaluation.subject import TEST, TRAIN, VALIDATION, Signals, Subject, decoded
from dvgen.interfaces.codes import Codes
from dvgen.seeding import fold

Measurements = dict[str, Measurement]
Tables = Mapping[str, Tensor]
"""Features (n, members * dim) float64 by the name of their space."""

ORACLE, REAL, UNIGRAM = "oracle codes", "real against real", "unigram samples"
"""Decoded held-out codes: the best a prior can do. Held-out signals: the best a tokenizer can do. Draws of the unigram: the
least to expect of a prior."""
SMALLEST = 8
"""Pixels across of images whose classes a classifier is asked to tell."""
READ = 2**20
"""Codes of the training split that are read at a time."""


class References(NamedTuple):
    """test: features to which distances are measured; train: of as many training signals; rows: measurements by row.

    train_signals: (n, channels, *size), those of `train`.
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


def closeness_to_train(
    subject: Subject, train: Tables, test: Tables, measured: Tables, about: Mapping[str, str]
) -> Measurements:
    """In every space, how many signals are closer to those of the training split than to those of the test split."""
    assert subject.signals is not None
    known, bits = subject.signals.reference, subject.signals.bits
    return {
        f"memorised/{name}": memorised(space, measured[name], train[name], test[name], known, about, bits=bits)
        for name, space in subject.signals.spaces.items()
    }


def code_distances(subject: Subject, codes: Codes, about: Mapping[str, str]) -> Measurements:
    """How codes differ from as many of the test split, and how many of them are in the training split."""
    cache, known = subject.cache, subject.cache.identity.hash
    found = code_measurements(cache.levels, codes, subject.codes(TEST), known, about, subject.pause)
    return found | {"duplicates": duplicates(codes, _train_codes(subject), known, about)}


def counted_codes(subject: Subject) -> Codes:
    """The training codes of models that only count: all, or a fair sample of what would take too long."""
    return subject.cache.codes(TRAIN, subject.positions(TRAIN)[: most_counted(subject.cache.levels)])


def tells_classes(signals: Signals) -> bool:
    """Whether there are classes that a classifier can be asked to tell: several, of images that are not tiny."""
    return signals.bits == 8 and len(signals.dataset.classes) > 1 and min(signals.dataset.shape[1:]) >= SMALLEST


def references(subject: Subject, *, labels: bool) -> References:
    """The features of real signals and the rows that bound what a prior can reach."""
    held_out = subject.codes(VALIDATION)
    drawn = unigram_samples(subject.cache.levels, counted_codes(subject), subject.n, fold(0, "unigram samples"))
    rows = {ORACLE: code_distances(subject, held_out, {"source": ORACLE}), REAL: {}}
    rows[UNIGRAM] = code_distances(subject, drawn, {"source": UNIGRAM})
    if subject.signals is None:
        del rows[REAL]
        return References({}, {}, rows, None)
    signals = {split: _signals(subject, subject.signals, split) for split in (TEST, VALIDATION, TRAIN)}
    test, train = tables(subject, signals[TEST]), tables(subject, signals[TRAIN])
    measured = {REAL: signals[VALIDATION], ORACLE: decoded(subject, held_out), UNIGRAM: decoded(subject, drawn)}
    for name, these in measured.items():
        features, about = tables(subject, these), {"source": name}
        rows[name] |= sample_distances(subject, test, features, about)
        rows[name] |= closeness_to_train(subject, train, test, features, about)
    if labels and tells_classes(subject.signals):
        known = subject.cache.labels(TRAIN, subject.first(TRAIN))
        rows[REAL]["cas"] = accuracy_on_test(subject, signals[TRAIN], known, {"source": "real, of the training split"})
    return References(test, train, {name: row for name, row in rows.items() if row}, signals[TRAIN])


def accuracy_on_test(subject: Subject, signals: Tensor, labels: Tensor, about: Mapping[str, str]) -> Measurement:
    """Accuracy on the test signals of a classifier that saw only these signals (n, channels, h, w) and labels (n,).

    about: how these were drawn.
    """
    assert subject.signals is not None
    return classification_accuracy(
        Labelled(signals, labels),
        Labelled(_signals(subject, subject.signals, TEST), subject.cache.labels(TEST, subject.first(TEST))),
        classes=len(subject.signals.dataset.classes),
        pause=subject.pause,
        about=about,
        reference=subject.signals.reference,
    )


def _train_codes(subject: Subject) -> Iterator[Codes]:
    """All training codes, a part at a time."""
    size = max(1, READ // subject.length)
    for part in torch.arange(subject.cache.size(TRAIN)).split(size):
        subject.pause()
        yield subject.cache.codes(TRAIN, part)


def _signals(subject: Subject, signals: Signals, split: str) -> Tensor:
    return torch.cat([signals.of(split, batch) for batch in subject.batches(subject.first(split))])
