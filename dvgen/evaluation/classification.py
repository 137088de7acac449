"""The classification accuracy score: are labelled samples as good as real ones to learn the classes from?"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dvgen.blocks.classifier import BATCH, train_classifier
from dvgen.errors import ConfigError, ShapeError
from dvgen.evaluation.measurement import Key, Measurement, sampler_protocol
from dvgen.evaluation.reconstruction import from_uint8, to_uint8
from dvgen.evaluation.statistics import share_interval
from dvgen.seeding import fold

STEPS = 500
PASSES = 20
"""Over the training images at most: few of them are soon learned by heart."""
CLASSIFIER = "small classifier:v1"
"""Names the network and its recipe in a measurement's key."""


class Labelled(NamedTuple):
    """Images (n, channels, h, w) in [-1, 1], rounded to 8 bits before they are used, and labels (n,) int64 from 0."""

    signals: Tensor
    labels: Tensor


def classification_accuracy(
    train: Labelled,
    test: Labelled,
    *,
    classes: int,
    pause: Callable[[], None],
    about: Mapping[str, str],
    reference: str,
) -> Measurement:
    """The share of real held-out images whose class is told by a classifier that saw only these training images.

    CAS of Ravuri and Vinyals 2019 (arXiv 1905.10887), section 3, top-1, when the training images are samples: then a lower
    value than that of as many real ones means classes that lack variety or are wrong. Copies of the training set score
    perfectly. It is not the accuracy on samples of a classifier trained on real images.

    classes: how many labels there are. pause: called before every step, and may raise to stop. about: how the training images
    were drawn, as `distances` takes it. reference: identity (a hash) of the test images. Wilson's interval over test images:
    it does not cover the training of another classifier.
    Raises ShapeError for tables that do not fit and ConfigError where nothing is given.
    """
    _check(train, "training")
    _check(test, "test")
    n, tested = len(train.labels), len(test.labels)
    steps = min(STEPS, PASSES * -(-n // BATCH))

    def batches(indices: Tensor) -> tuple[Tensor, Tensor]:
        return _as_stored(train.signals[indices]), train.labels[indices]

    seed = fold(0, "classification accuracy")
    channels = train.signals.shape[1]
    classifier = train_classifier(batches, n, channels=channels, classes=classes, steps=steps, seed=seed, pause=pause)
    right = _right(classifier, test, pause)
    protocol = {
        "classifier": CLASSIFIER,
        "steps": str(steps),
        "n trained on": str(n),
        "n test": str(tested),
        "classes": str(classes),
        "reference": reference,
        "rounding": "8 bits, nearest",
    }
    protocol |= sampler_protocol(about)
    key = Key("CAS", "", protocol, higher_is_better=True)
    return Measurement(right / tested, share_interval(right, tested), tested, key)


@torch.no_grad()
def _right(classifier: nn.Module, test: Labelled, pause: Callable[[], None]) -> int:
    """How many images the classifier gives their own label."""
    right = 0
    for these, wanted in zip(test.signals.split(BATCH), test.labels.split(BATCH), strict=True):
        pause()
        right += int((classifier(_as_stored(these)).argmax(dim=1) == wanted).sum())
    return right


def _as_stored(signals: Tensor) -> Tensor:
    """What a file would give back."""
    return from_uint8(to_uint8(signals))


def _check(images: Labelled, what: str) -> None:
    signals, labels = images
    if signals.ndim != 4 or labels.shape != signals.shape[:1]:
        raise ShapeError(
            f"expected {what} images (n, channels, h, w) and labels (n,), got {tuple(signals.shape)} and {tuple(labels.shape)}"
        )
    if not len(signals):
        raise ConfigError(f"no {what} images to measure the classification accuracy with; give at least one")
