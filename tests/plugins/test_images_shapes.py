"""Scenes of two shapes that agree: all of them, each once, and the agreement can be read off the pixels."""

import itertools

import pytest
import torch

from dvgen.config import structure
from dvgen.errors import ConfigError
from dvgen_images.shapes import BACKGROUNDS, COLOURS, CORNERS, OBJECT, SHAPES, Shapes


@pytest.fixture(scope="module")
def scenes():
    return Shapes(Shapes.Config(), location=None)


@pytest.fixture(scope="module")
def signals(scenes):
    return scenes.signals(range(len(scenes)))


@pytest.fixture(scope="module")
def pixels(signals):
    return ((signals + 1) * 127.5).round().to(torch.uint8)


def scene(index):
    """Shape, colour, background, left and right place of an index, counted by hand."""
    factors = itertools.product(*(range(n) for n in (6, 6, 3, 9, 9)))
    return next(itertools.islice(factors, index, None))


def test_the_set_is_every_scene_once_and_all_images_differ(scenes, pixels):
    assert len(scenes) == 6 * 6 * 3 * 9 * 9 == len({image.numpy().tobytes() for image in pixels})
    assert scenes.exhaustive
    assert (scenes.shape, scenes.parts) == ((3, 32, 32), {"train": (0, 8748)})


def test_the_label_is_the_shape_and_classes_are_equally_frequent(scenes):
    assert scenes.classes == SHAPES
    assert torch.bincount(scenes.labels).tolist() == [8748 // 6] * 6
    for index in (0, 1457, 1458, 5000, 8747):
        assert scenes.labels[index] == scene(index)[0]


def test_signals_are_floats_within_the_range_and_pure(scenes, signals):
    assert signals.dtype == torch.float32
    assert signals.min() >= -1
    assert signals.max() <= 1
    rows = [8747, 3, 3, 4000]
    assert torch.equal(scenes.signals(rows), signals[rows])
    assert torch.equal(Shapes(Shapes.Config(), location=None).signals(rows), signals[rows])


def test_both_halves_hold_the_same_object_at_their_own_places(pixels):
    """Cut both objects out at the places that the index says: shape and colour agree, and nothing else is in the scene."""
    for index in range(0, 8748, 97):
        _, colour, background, left, right = scene(index)
        image = pixels[index].int()
        crops = []
        for place, offset in ((left, 0), (right, 16)):
            top, side = CORNERS[place]
            rows, columns = slice(top, top + OBJECT), slice(offset + side, offset + side + OBJECT)
            crops.append((image[:, rows, columns] == torch.tensor(COLOURS[colour])[:, None, None]).all(0))
            image[:, rows, columns] = -1
        assert torch.equal(crops[0], crops[1])
        assert crops[0].sum() >= 20
        top_row, bottom_row = image[:, 0], image[:, 31]
        for row, end in ((top_row, 0), (bottom_row, 1)):
            expected = torch.tensor(BACKGROUNDS[background][end])[:, None]
            assert ((row == expected) | (row == -1)).all()
        assert (image == -1).any(0).sum() == 2 * OBJECT**2


def test_the_six_objects_are_told_apart_easily(scenes):
    """Objects of two shapes at one place differ in at least 8 whole pixels' worth of colour."""
    each = 8748 // 6
    drawn = (scenes.signals([shape * each for shape in range(6)]) + 1) / 2
    contrast = (torch.tensor(COLOURS[0]) / 255 - torch.tensor(BACKGROUNDS[0][0]) / 255).abs().sum()
    for one, other in itertools.combinations(drawn, 2):
        assert (one - other).abs().sum() / contrast / 2 >= 8


def test_places_are_mostly_off_the_grid_of_a_tokenizer():
    assert sum(top % 4 == 0 and left % 4 == 0 for top, left in CORNERS) <= 2
    assert len(set(CORNERS)) == len(CORNERS) == 9
    assert all(0 <= top <= 32 - OBJECT and 0 <= left <= 16 - OBJECT for top, left in CORNERS)


def test_smaller_sets_are_all_scenes_of_fewer_factors(scenes):
    config = structure({"shapes": 3, "colours": 2, "backgrounds": 1, "positions": 4}, Shapes.Config)
    small = Shapes(config, location=None)
    images = small.signals(range(len(small)))
    assert len(small) == 3 * 2 * 1 * 4 * 4 == len(images.unique(dim=0))
    assert small.classes == SHAPES[:3]
    index = ((1 * 6 + 1) * 3 * 9 + 2) * 9 + 3  # shape 1, colour 1, background 0, places 2 and 3
    assert torch.equal(small.signals([(1 * 2 + 1) * 16 + 2 * 4 + 3]), scenes.signals([index]))
    assert small.digest() != scenes.digest()


def test_the_digest_is_the_same_on_every_machine(scenes):
    """Drawing is integer arithmetic; if this changes, results on shapes cannot be compared with older ones."""
    assert scenes.digest() == "b71dddf6c3618cd40e3463268ea97c35ae5b3c88d1f6300e55c47ecfa7fcc8de"


def test_a_location_and_a_count_out_of_range_are_config_errors():
    with pytest.raises(ConfigError, match="shapes takes no location"):
        Shapes(Shapes.Config(), location="somewhere")
    with pytest.raises(ConfigError, match="colours"):
        structure({"colours": 7}, Shapes.Config)
