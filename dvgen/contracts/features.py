"""Properties F1 to F10: the vectors that features make of signals, and by what they are known.

Shapes: b batch, channels and *size of signals.
"""

import copy
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dvgen.contracts.data_set_identity import require_sha256
from dvgen.contracts.data_subject import FeaturesSubject, vectors
from dvgen.contracts.labelled_signals import LabelledSignals
from dvgen.contracts.law import law, must_raise, require, require_close, require_equal
from dvgen.contracts.model_subject import Example
from dvgen.contracts.module_state import require_state, state_of
from dvgen.contracts.random_states import random_states_kept
from dvgen.errors import DvgenError, ShapeError
from dvgen.interfaces.features import Features

ROUNDINGS = {torch.float64: 1e-9, torch.float32: 1e-4}
"""How far vectors of one signal may lie apart in two batches, relative to the largest value."""


class _Stop(Exception):
    """What `pause` raises to stop."""


@law("F1", "vectors are float32 or float64 (b, members * dim), and dim and members at least 1")
def widths(subject: FeaturesSubject, example: Example) -> None:
    features, signals = subject.ready(subject.shape(example)), subject.signals(example)
    for name, value in (("dim", features.dim), ("members", features.members)):
        require(isinstance(value, int) and value >= 1, f"{name} is {value!r}, expected a whole number from 1")
    found = vectors(features, signals)
    require(found.dtype in ROUNDINGS, f"vectors are {found.dtype}, expected float32 or float64")
    wanted = (len(signals), features.members * features.dim)
    require(tuple(found.shape) == wanted, f"vectors of shape {tuple(found.shape)}, expected {wanted}")


@law("F2", "vectors are finite, of noise as of signals that are the same everywhere")
def finite(subject: FeaturesSubject, example: Example) -> None:
    features, signals = subject.ready(subject.shape(example)), subject.signals(example)
    require(vectors(features, signals).isfinite().all(), "vectors of noise are not finite")
    for value in (-1.0, 0.0, 1.0):
        found = vectors(features, torch.full_like(signals, value))
        require(found.isfinite().all(), f"vectors of signals that are {value} everywhere are not finite")


@law("F3", "in evaluation, vectors are the same each time, and no state, signal or global random state moves")
def pure(subject: FeaturesSubject, example: Example) -> None:
    features, signals = subject.ready(subject.shape(example)), subject.signals(example)
    kept, before = signals.clone(), state_of(features)
    with random_states_kept("forward"):
        first = vectors(features, signals).clone()
    require_equal(vectors(features, signals), first, "vectors of a second pass")
    require_equal(signals, kept, "the signals after two passes")
    require_state(features, before, "after two passes")


@law("F4", "the vector of a signal does not depend on the signals beside it")
def neighbours(subject: FeaturesSubject, example: Example) -> None:
    features, signals = subject.ready(subject.shape(example)), subject.signals(example, 3)
    together = vectors(features, signals)
    for i in range(len(signals)):
        alone = vectors(features, signals[i : i + 1])
        require_close(alone, together[i : i + 1], f"vector of signal {i} alone, and of three", relative=ROUNDINGS[alone.dtype])


@law("F5", "different signals have different vectors, and the members are different networks")
def signals_matter(subject: FeaturesSubject, example: Example) -> None:
    features, signals = subject.ready(subject.shape(example)), subject.signals(example, 3)
    found = vectors(features, signals)
    require((found[1:] != found[:1]).any(dim=1).all(), "two different signals have the same vector")
    networks = found.unflatten(1, (features.members, -1)).unbind(dim=1)
    for i, network in enumerate(networks):
        same = [j for j in range(i) if torch.equal(networks[j], network)]
        require(not same, f"member {i} says what member {same[:1]} says")


@law("F6", "the label is text without spaces, and weights_hash a SHA-256 in 64 hex digits of lower case", once=True)
def named(subject: FeaturesSubject, example: Example) -> None:
    features = subject.ready(subject.shape(example))
    label: Any = features.label
    right = isinstance(label, str) and label != "" and not any(letter.isspace() for letter in label)
    require(right, f"label is {label!r}, expected text without spaces")
    require_sha256(features.weights_hash, "weights_hash")


@law("F7", "built again, whatever the random state, it has the same label, weights_hash and vectors",
     applies=lambda s: not s.kind.learned)  # fmt: skip
def built_alike(subject: FeaturesSubject, example: Example) -> None:
    shape, signals = subject.shape(example), subject.signals(example)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(example.seed)
        first = subject.built(shape)
        torch.manual_seed(example.seed + 1)
        _require_same(subject.built(shape), first, signals, "built again")


@law("F8", "state_dict and deepcopy carry label, weights_hash and all that vectors depend on")
def restored(subject: FeaturesSubject, example: Example) -> None:
    shape, signals = subject.shape(example), subject.signals(example)
    features = subject.ready(shape)
    other = subject.built(shape)
    other.load_state_dict({name: value.clone() for name, value in features.state_dict().items()})
    _require_same(other.eval(), features, signals, "after state_dict")
    _require_same(copy.deepcopy(features), features, signals, "after deepcopy")


@law("F9", "signals of other channels or with an axis too many or too few raise ShapeError", once=True)
def wrong_shapes(subject: FeaturesSubject, example: Example) -> None:
    for shape in subject.shapes:
        features, signals = subject.ready(shape), torch.zeros(2, *shape)
        wrong = {
            f"{shape[0] + 1} channels": torch.zeros(2, shape[0] + 1, *shape[1:]),
            "no axis of the batch": signals[0],
            "one more axis": signals.unsqueeze(-1),
        }
        for what, given in wrong.items():
            must_raise(partial(vectors, features, given), ShapeError, f"signals {tuple(given.shape)} with {what}")
        with suppress(ShapeError):  # a single place may be too little, and may be enough
            vectors(features, torch.zeros(2, shape[0], *(1 for _ in shape[1:])))


@law("F10", "learned features raise before `fit`, and afterwards other weights have another label and another weights_hash",
     applies=lambda s: s.kind.learned, once=True)  # fmt: skip
def learns(subject: FeaturesSubject, example: Example) -> None:
    shape, signals = subject.shape(example), subject.signals(example)
    try:
        answer = vectors(subject.built(shape), signals)
    except DvgenError:
        answer = None  # as it should be
    require(answer is None, "features that have learned nothing answer; raise ConfigError until `fit` or load_state_dict")
    one, other = subject.ready(shape, 0), subject.ready(shape, 1)
    if not torch.equal(vectors(one, signals), vectors(other, signals)):
        require(one.weights_hash != other.weights_hash, f"two sets of weights have the weights_hash {one.weights_hash}")
        require(one.label != other.label, f"two sets of weights have the label {one.label!r}")


@law("F10", "`fit` asks for signals of the training split alone", applies=lambda s: s.kind.learned, once=True)
def learns_training_split(subject: FeaturesSubject, example: Example) -> None:
    for shape in subject.shapes:
        dataset = LabelledSignals(shape, 0)
        subject.built(shape).fit(dataset, dataset.training, lambda: None)


@law("F10", "`fit` calls `pause`, and ends with what it raises", applies=lambda s: s.kind.learned, once=True)
def fit_pauses(subject: FeaturesSubject, example: Example) -> None:
    def stop() -> None:
        raise _Stop

    shape = subject.shape(example)
    dataset = LabelledSignals(shape, 0)
    try:
        subject.built(shape).fit(dataset, dataset.training, stop)
    except _Stop:
        return
    require(False, "`fit` did not call `pause`, or did not let what it raised pass")


def _require_same(found: Features, expected: Features, signals: Tensor, when: str) -> None:
    for name in ("label", "weights_hash"):
        one, other = getattr(found, name), getattr(expected, name)
        require(one == other, f"{name} {when}: {one!r}, expected {other!r}")
    require_equal(vectors(found, signals), vectors(expected, signals), f"vectors {when}")
