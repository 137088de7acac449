"""Features of sound are the same on every machine, and hear pitch, noise and missing classes."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from dvgen.errors import ConfigError, ShapeError
from dvgen.evaluation.frechet import feature_table, frechet_distance
from dvgen_sound.rand import RandomSoundFeatures
from dvgen_sound.tones import Tones


def rand() -> RandomSoundFeatures:
    return RandomSoundFeatures(RandomSoundFeatures.Config(), channels=1)


def phrases(rows: Tensor) -> Tensor:
    return Tones(Tones.Config(), location=None).signals(rows.tolist())


def test_random_weights_are_pinned() -> None:
    """A changed hash is a changed measure: it needs a new label."""
    assert rand().label == "rand-sound:v2"
    assert rand().weights_hash == "65a9b9ba2609751d51c9baba61650e70d77f9a7a4d509d38b458c461057136c9"
    assert not rand().official


def test_the_value_on_a_known_sound_is_pinned() -> None:
    """The network around the weights is part of the measure, too."""
    found = rand()(phrases(torch.tensor([0, 5000])))
    expected = torch.tensor(
        [
            [0.03933916609800733, -0.05445796321089039, -0.08241916550782832],
            [0.16369970187856792, -0.05122635108201593, -0.2805239257758875],
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(found[:, ::64], expected, rtol=1e-6, atol=1e-9)


def test_features_draw_no_random_numbers() -> None:
    before = torch.get_rng_state()
    rand()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("length", [1024, 2048, 5001])
def test_features_have_the_right_shape_and_do_not_depend_on_the_batch(length: int) -> None:
    features = rand()
    signals = torch.rand(4, 1, length, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = features(signals)
    assert (found.shape, found.dtype) == ((4, 3 * features.dim), torch.float64)
    alone = torch.cat([features(signal) for signal in signals.split(1)])
    torch.testing.assert_close(alone, found, rtol=1e-12, atol=1e-12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(features(signals), found, rtol=1e-12, atol=1e-12)


def test_silence_is_nothing_and_a_tone_is_something() -> None:
    time = torch.arange(2048) / 8000
    found = rand()(torch.stack([torch.zeros(1, 2048), torch.sin(2 * torch.pi * 440 * time)[None]]))
    assert (found[0] == 0).all()
    assert found[1].abs().max() > 0.01


def test_features_refuse_what_they_cannot_take() -> None:
    with pytest.raises(ConfigError, match="1 channel, got 2"):
        RandomSoundFeatures(RandomSoundFeatures.Config(), channels=2)
    for shape in ((1, 2, 2048), (1, 1, 1023), (1, 1, 64, 64)):
        with pytest.raises(ShapeError, match="at least 1024 samples"):
            rand()(torch.zeros(shape))


def test_the_distance_grows_with_noise_wrong_pitch_and_missing_classes() -> None:
    features = rand()
    drawn = torch.randperm(6912, generator=torch.Generator().manual_seed(0))
    reference, held_out = drawn[:400], drawn[400:800]
    sounds = phrases(held_out)
    label = held_out // 1728
    noise = torch.randn(sounds.shape, generator=torch.Generator().manual_seed(0))
    table = feature_table(features, [phrases(reference)])
    higher = [sounds, *(torch.cat([sounds[:, :, ::step]] * step, dim=2)[:, :, :2048] for step in (2, 4))]
    families = [
        [sounds, *(sounds + scale * noise for scale in (0.02, 0.3))],
        [sounds, *(sounds[label >= dropped] for dropped in (1, 3))],
        higher,
    ]

    def distances(signals: Tensor) -> list[float]:
        pairs = zip(table.split(64, dim=1), feature_table(features, [signals]).split(64, dim=1), strict=True)
        return [frechet_distance(a, b) for a, b in pairs]

    for family in families:
        for found in zip(*(distances(signals) for signals in family), strict=True):  # of one network
            assert all(a < b for a, b in pairwise(found))
            assert found[1] > 1.2 * found[0]
            assert found[-1] > 3 * found[0]
