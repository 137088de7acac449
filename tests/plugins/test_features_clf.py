"""Features of a learned classifier: they carry the hash of what was learned, and see missing classes."""

from itertools import pairwise

import pytest
import torch
from attrs import frozen
from torch import Tensor

from dvgen.blocks.classifier import train_classifier
from dvgen.blocks.signed_weights import weights_hash
from dvgen.errors import ConfigError, ShapeError
from dvgen.evaluation.frechet import feature_table, frechet_distance
from dvgen.interfaces.data import Dataset
from dvgen_features.clf import SEED, ClassifierFeatures


class Discs(Dataset):
    """Discs of four sizes (the classes) at random places, 16x16 grey."""

    @frozen(kw_only=True)
    class Config:
        """Nothing to set."""

    def __init__(self, n: int, seed: int, classes: int = 4) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(classes, (n,), generator=generator)
        y, x = (torch.rand(n, 1, 1, generator=generator) * 6 + 5 for _ in range(2))
        axis = torch.arange(16.0)
        distance = ((axis[:, None] - y) ** 2 + (axis - x) ** 2).sqrt()
        self.images = ((2.0 + self.labels[:, None, None] - distance).clamp(0, 1) * 2 - 1).unsqueeze(1)
        self.shape, self.classes, self.parts = (1, 16, 16), ("a", "b", "c", "d"), {"train": (0, n)}

    def signals(self, indices: list[int]) -> Tensor:
        return self.images[indices]

    def digest(self) -> str:
        return ""


def features(steps: int = 400) -> ClassifierFeatures:
    return ClassifierFeatures(ClassifierFeatures.Config(steps=steps), channels=1)


@pytest.fixture(scope="module")
def fitted() -> ClassifierFeatures:
    found = features(steps=60)
    found.fit(Discs(600, 0), torch.arange(600), lambda: None)
    return found


def test_they_say_that_they_have_learned_nothing_yet() -> None:
    found = features()
    assert (found.learned, found.opt_in, found.official) == (True, False, False)
    assert (found.label, found.weights_hash) == ("clf:cnn64", "")
    with pytest.raises(ConfigError, match="have learned nothing yet"):
        found(torch.zeros(1, 1, 16, 16))


def test_they_are_the_classifiers_features_in_double_precision_and_named_by_its_weights() -> None:
    data, indices = Discs(200, 0), torch.arange(0, 200, 2)
    found = features(steps=3)
    before = torch.get_rng_state()
    found.fit(data, indices, lambda: None)
    assert torch.equal(torch.get_rng_state(), before)
    model = train_classifier(
        lambda i: (data.images[2 * i], data.labels[2 * i]),
        100,
        channels=1,
        classes=4,
        steps=3,
        seed=SEED,
        pause=lambda: None,
    )
    out = found.train()(data.images[:5])
    assert (out.shape, out.dtype, found.dim, found.members) == ((5, 64), torch.float64, 64, 1)
    torch.testing.assert_close(out, model.double().features(data.images[:5].double()), rtol=1e-12, atol=1e-12)
    kept = [tensor for name, tensor in model.state_dict().items() if not name.startswith("last.")]
    assert found.weights_hash == weights_hash(kept)
    assert found.label == f"clf:cnn64@{found.weights_hash[:8]}"
    assert not out.requires_grad


def test_what_was_learned_can_be_loaded_and_names_itself(fitted: ClassifierFeatures) -> None:
    again = features()
    again.load_state_dict(fitted.state_dict())
    assert (again.label, again.weights_hash) == (fitted.label, fitted.weights_hash)
    images = Discs(3, 1).images
    assert torch.equal(again(images), fitted(images))


def test_the_batch_and_autocast_do_not_show(fitted: ClassifierFeatures) -> None:
    images = Discs(5, 1).images
    whole = fitted(images)
    torch.testing.assert_close(torch.cat([fitted(image) for image in images.split(1)]), whole, rtol=1e-12, atol=1e-12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(fitted(images), whole, rtol=1e-12, atol=1e-12)


def test_small_data_are_not_seen_more_than_twenty_times() -> None:
    seen: list[None] = []
    features().fit(Discs(130, 0), torch.arange(130), lambda: seen.append(None))
    assert len(seen) == 40


def test_data_without_two_classes_and_signals_that_are_no_images_are_refused() -> None:
    data = Discs(50, 0, classes=1)  # four names, of which one occurs
    with pytest.raises(ConfigError, match="the training split has only one"):
        features().fit(data, torch.arange(50), lambda: None)
    for shape in ((1, 3, 16, 16), (1, 1, 15, 16), (1, 1, 4000)):
        with pytest.raises(ShapeError, match="at least 16 x 16"):
            features()(torch.zeros(shape))


def test_the_distance_grows_with_missing_classes_and_noise(fitted: ClassifierFeatures) -> None:
    held_out = Discs(400, 2)
    table = feature_table(fitted, [Discs(400, 1).images])
    noise = torch.randn(held_out.images.shape, generator=torch.Generator().manual_seed(0))
    families = [
        [held_out.images[held_out.labels >= dropped] for dropped in range(4)],
        [held_out.images + scale * noise for scale in (0.0, 0.1, 0.3, 0.9)],
    ]
    for family in families:
        found = [frechet_distance(table, feature_table(fitted, [images]), allow_small=True) for images in family]
        assert all(a < b for a, b in pairwise(found))
        assert found[-1] > 10 * found[0]
