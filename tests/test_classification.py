"""The classification accuracy score judges training images by what is learned from them about real ones."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dvgen.blocks.classifier import Batches
from dvgen.errors import ConfigError, ShapeError
from dvgen.evaluation import classification
from dvgen.evaluation.classification import Labelled, classification_accuracy
from dvgen.evaluation.measurement import Measurement


def images(labels: Tensor, seed: int) -> Tensor:
    """Noise, lighter on the left for class 0 and on the right for class 1."""
    noise = torch.rand(len(labels), 1, 16, 16, generator=torch.Generator().manual_seed(seed)) - 0.5
    side = torch.arange(16) >= 8
    return noise + (side == labels[:, None, None, None].bool()) * 0.4


TEST_LABELS = torch.arange(60) % 2
TEST = images(TEST_LABELS, 0)


def accuracy(signals: Tensor, labels: Tensor, source: str = "samples", pauses: list[int] | None = None) -> Measurement:
    seen: list[int] = [] if pauses is None else pauses
    return classification_accuracy(
        Labelled(signals, labels),
        Labelled(TEST, TEST_LABELS),
        classes=2,
        pause=lambda: seen.append(1),
        about={"source": source},
        reference="ref",
    )


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little training, for an easy task."""
    monkeypatch.setattr(classification, "STEPS", 25)


def test_good_samples_teach_the_classes_and_swapped_labels_teach_the_reverse() -> None:
    labels = torch.arange(80) % 2
    signals = images(labels, 1)
    good, swapped = accuracy(signals, labels), accuracy(signals, 1 - labels)
    assert good.value > 0.9
    assert swapped.value < 0.1
    assert good.n == 60
    for found in (good, swapped):
        assert found.interval is not None
        assert found.interval[0] <= found.value <= found.interval[1]
        assert found.interval[1] - found.interval[0] < 0.3
    assert good.key.higher_is_better


def test_it_is_a_function_of_its_arguments_and_pauses_before_every_step() -> None:
    labels = torch.arange(20) % 2
    signals = images(labels, 1)
    state = torch.get_rng_state()
    pauses: list[int] = []
    first = accuracy(signals, labels, pauses=pauses)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(7)
    assert accuracy(signals, labels) == first
    # 20 passes over the one batch of training images, and the one batch of test images
    assert len(pauses) == 20 + 1


def test_both_sets_are_seen_as_files_hold_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a file would not keep must neither teach nor judge anything."""
    seen: list[Tensor] = []

    def untrained(batches: Batches, n: int, **settings: object) -> Callable[[Tensor], Tensor]:
        seen.append(batches(torch.arange(n))[0])

        def classifier(signals: Tensor) -> Tensor:
            seen.append(signals)
            return torch.zeros(len(signals), 2)

        return classifier

    monkeypatch.setattr(classification, "train_classifier", untrained)
    labels = torch.arange(20) % 2
    signals = images(labels, 1)
    assert accuracy(signals, labels).value == 0.5
    for shown, given in zip(seen, (signals, TEST), strict=True):
        torch.testing.assert_close(shown, (given.clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1)
        assert not torch.equal(shown, given)


def test_the_key_tells_what_the_classifier_was_trained_on() -> None:
    labels = torch.arange(20) % 2
    signals = images(labels, 1)
    real, drawn = (accuracy(signals, labels, what).key for what in ("real", "samples"))
    assert real.metric == "CAS"
    assert real.differences(drawn) == ["protocol sampler source: real against samples"]


def test_images_and_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"training images .* got \(60, 1, 16, 16\) and \(59,\)"):
        accuracy(TEST, TEST_LABELS[:59])
    with pytest.raises(ConfigError, match="no training images"):
        accuracy(TEST[:0], TEST_LABELS[:0])
