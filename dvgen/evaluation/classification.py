"""The classification accuracy score: are labelled samples as good as real ones to learn the classes from?"""

from collections.abc import Callable

import torch
from torch import Tensor

from dvgen.blocks.classifier import train_classifier
from dvgen.errors import ConfigError, ShapeError
from dvgen.evaluation.measurement import Key, Measurement
from dvgen.evaluation.reconstruction import from_uint8, to_uint8
from dvgen.evaluation.statistics import share_interval
from dvgen.seeding import fold

STEPS = 400
CLASSIFIER = "dvgen.blocks.classifier v1"
BATCH = 256


def classification_accuracy(
    train_signals: Tensor,
    train_labels: Tensor,
    test_signals: Tensor,
    test_labels: Tensor,
    *,
    classes: int,
    pause: Callable[[], None],
    trained_on: str,
    reference: str,
) -> Measurement:
    """The share of real held-out images whose class is told by a classifier that saw only these training images.

    CAS of Ravuri and Vinyals 2019 (arXiv 1905.10887), section 3, top-1, when the training images are samples: then a lower
    value than that of as many real ones means classes that lack variety or are wrong. Copies of the training set score
    perfectly. It is not the accuracy on samples of a classifier trained on real images.

    Images (n, channels, h, w) in [-1, 1], rounded to 8 bits first; labels (n,) int64, 0 <= label < classes. pause: called
    before every step, and may raise to stop. trained_on: what the training images are, such as "real". reference: identity (a
    hash) of the test images. Wilson's interval over test images: it does not cover the training of another classifier.
    Raises ShapeError for tables that do not fit and ConfigError where nothing is given.
    """
    for signals, labels, what in ((train_signals, train_labels, "training"), (test_signals, test_labels, "test")):
        if signals.ndim != 4 or labels.shape != signals.shape[:1]:
            raise ShapeError(
                f"expected {what} images (n, channels, h, w) and labels (n,), "
                f"got {tuple(signals.shape)} and {tuple(labels.shape)}"
            )
        if not len(signals):
            raise ConfigError(f"no {what} images to measure the classification accuracy with; give at least one")

    def batches(indices: Tensor) -> tuple[Tensor, Tensor]:
        return from_uint8(to_uint8(train_signals[indices])), train_labels[indices]

    classifier = train_classifier(
        batches,
        len(train_signals),
        channels=train_signals.shape[1],
        classes=classes,
        steps=STEPS,
        seed=fold(0, "classification accuracy"),
        pause=pause,
    )
    right = 0
    with torch.no_grad():
        for signals, labels in zip(test_signals.split(BATCH), test_labels.split(BATCH), strict=True):
            pause()
            right += int((classifier(from_uint8(to_uint8(signals))).argmax(dim=1) == labels).sum())
    protocol = {
        "classifier": CLASSIFIER,
        "steps": str(STEPS),
        "trained on": trained_on,
        "n trained on": str(len(train_signals)),
        "classes": str(classes),
        "reference": reference,
        "rounding": "8 bits, nearest",
    }
    n = len(test_signals)
    return Measurement(right / n, share_interval(right, n), n, Key("CAS", "", protocol, higher_is_better=True))
