"""Features of random networks are the same on every machine, and tell damaged images from whole ones."""

import hashlib
import struct
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, conv2d, interpolate, relu

from dvgen.blocks.signed_weights import signed_weights, weights_hash
from dvgen.errors import ConfigError, ShapeError
from dvgen.evaluation.frechet import feature_table, frechet_distance
from dvgen_features.rand import RandomFeatures


def rand(channels: int = 1) -> RandomFeatures:
    return RandomFeatures(RandomFeatures.Config(), channels=channels)


def discs(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Discs of four sizes (the classes) at random places, 16x16 grey, and their classes."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.randint(4, (n, 1, 1), generator=generator)
    y, x = (torch.rand(n, 1, 1, generator=generator) * 6 + 5 for _ in range(2))
    axis = torch.arange(16.0)
    distance = ((axis[:, None] - y) ** 2 + (axis - x) ** 2).sqrt()
    return ((2.0 + size - distance).clamp(0, 1) * 2 - 1).unsqueeze(1), size.flatten()


def test_random_weights_are_pinned() -> None:
    """A changed hash is a changed measure: it needs a new label."""
    assert (rand().label, rand().dim, rand().members) == ("rand:v2", 64, 3)
    assert rand().weights_hash == "0256f553d5b0870f24028f0b8004e7316adc6459543fbe9b398b315496335b8b"
    assert rand(3).weights_hash == rand(1).weights_hash
    assert not rand().official


def test_random_weights_are_the_bits_of_sha_256() -> None:
    weights = signed_weights("a", (5, 100)).flatten()
    digests = b"".join(hashlib.sha256(f"a/{block}".encode()).digest() for block in range(2))
    bits = "".join(f"{byte:08b}" for byte in digests)[:500]
    assert [w > 0 for w in weights.tolist()] == [bit == "1" for bit in bits]
    assert weights.abs().unique().tolist() == [(2 / 100) ** 0.5]


def test_the_hash_is_of_the_little_endian_doubles_of_all_networks() -> None:
    features = rand()
    values = [value for tensor in features.buffers() for value in tensor.flatten().tolist()]
    assert len(values) == 3 * (32 * 27 + 64 * 288 + 64 * 576 + 64 * 1024)
    assert features.weights_hash == hashlib.sha256(struct.pack(f"<{len(values)}d", *values)).hexdigest()
    changed = list(features.buffers())
    changed[-1] = changed[-1].clone()
    changed[-1][2, 63, 1023] *= -1
    assert weights_hash(changed) != features.weights_hash


def test_the_three_networks_are_independent_and_stand_one_after_the_other() -> None:
    """Each network computed alone from its own bits of SHA-256; no two of them agree on more signs than chance allows."""
    features = rand()
    signals = torch.rand(2, 1, 20, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    x = signals.double().repeat(1, 3, 1, 1)
    networks = []
    for i in range(3):
        shapes = {"conv0": (32, 3, 3, 3), "conv1": (64, 32, 3, 3), "conv2": (64, 64, 3, 3), "projection": (64, 1024)}
        weights = [signed_weights(f"rand:v2/{i}/{name}", shape) for name, shape in shapes.items()]
        half = avg_pool2d(relu(conv2d(x, weights[0], padding=1)), 2)
        quarter = avg_pool2d(relu(conv2d(half, weights[1], padding=1)), 2)
        last = adaptive_avg_pool2d(relu(conv2d(quarter, weights[2], padding=1)), 4)
        networks.append((weights, last.flatten(1) @ weights[3].T))
    torch.testing.assert_close(features(signals), torch.cat([out for _, out in networks], dim=1), rtol=1e-12, atol=1e-12)
    for a in range(3):
        for b in range(a):
            for one, other in zip(networks[a][0], networks[b][0], strict=True):
                agreement = float(((one > 0) == (other > 0)).double().mean())
                assert abs(agreement - 0.5) < 2.5 / one.numel() ** 0.5  # 5 standard deviations


def test_the_value_on_a_known_image_is_pinned() -> None:
    """The network around the weights is part of the measure, too."""
    ramp = torch.linspace(-1, 1, 256).reshape(1, 1, 16, 16)
    found = rand()(ramp)[0, ::64]
    torch.testing.assert_close(
        found,
        torch.tensor([-0.18380079124197352, 0.20289270032097692, -0.011201982929728349], dtype=torch.float64),
        rtol=1e-6,
        atol=1e-9,
    )


def test_random_features_draw_no_random_numbers() -> None:
    before = torch.get_rng_state()
    rand()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 28, 28), (3, 17, 40), (1, 128, 96)])
def test_random_features_have_the_right_shape_and_do_not_depend_on_the_batch(shape: tuple[int, ...]) -> None:
    features = rand(shape[0])
    signals = torch.rand(5, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = features(signals)
    assert (found.shape, found.dtype) == ((5, 3 * features.dim), torch.float64)
    alone = torch.cat([features(signal) for signal in signals.split(1)])
    torch.testing.assert_close(alone, found, rtol=1e-12, atol=1e-12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(features(signals), found, rtol=1e-12, atol=1e-12)


def test_grey_is_the_colour_image_of_equal_channels() -> None:
    grey = torch.rand(2, 1, 16, 16)
    assert torch.equal(rand(1)(grey), rand(3)(grey.repeat(1, 3, 1, 1)))


def test_random_features_refuse_what_they_cannot_take() -> None:
    with pytest.raises(ConfigError, match="1 or 3 channels, got 2"):
        rand(2)
    for shape in ((1, 3, 16, 16), (1, 1, 15, 16), (1, 1, 16)):
        with pytest.raises(ShapeError, match="at least 16 x 16"):
            rand(1)(torch.zeros(shape))


def test_the_distance_grows_with_noise_blur_and_missing_classes() -> None:
    features = rand()
    reference, _ = discs(400, 0)
    held_out, label = discs(400, 1)
    noise = torch.randn(held_out.shape, generator=torch.Generator().manual_seed(0))
    table = feature_table(features, [reference])

    def distances(signals: Tensor) -> list[float]:
        pairs = zip(table.split(64, dim=1), feature_table(features, [signals]).split(64, dim=1), strict=True)
        return [frechet_distance(a, b) for a, b in pairs]

    def blurred(factor: int) -> Tensor:
        return interpolate(avg_pool2d(held_out, factor), scale_factor=factor, mode="bilinear")

    families = [
        [held_out, *(held_out + scale * noise for scale in (0.1, 0.9))],
        [held_out, *(blurred(factor) for factor in (2, 8))],
        [held_out, *(held_out[label >= dropped] for dropped in (1, 3))],
    ]
    for family in families:
        for found in zip(*(distances(signals) for signals in family), strict=True):  # of one network
            assert all(a < b for a, b in pairwise(found))
            assert found[1] > 1.3 * found[0]
            assert found[-1] > 10 * found[0]
