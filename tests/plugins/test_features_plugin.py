"""Features are the same on every machine, and FID's are loaded from FID's file or not at all."""

import hashlib
import io
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from dvgen.blocks.signed_weights import signed_weights
from dvgen.errors import ConfigError, DataError, ShapeError
from dvgen.evaluation.frechet import feature_table, frechet_distance
from dvgen.evaluation.reconstruction import from_uint8
from dvgen_features import inception
from dvgen_features.inception import NAMES, Inception, find_weights, load_network
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
    assert rand().label == "rand:v1"
    assert rand().weights_hash == "01f4543f2dc0a1866f194431d2cfbf2deb2efe8a936535caa75b16c85a24bebc"
    assert rand(3).weights_hash == rand(1).weights_hash
    assert not rand().official


def test_random_weights_are_the_bits_of_sha_256() -> None:
    weights = signed_weights("a", (5, 100)).flatten()
    digests = b"".join(hashlib.sha256(f"a/{block}".encode()).digest() for block in range(2))
    bits = "".join(f"{byte:08b}" for byte in digests)[:500]
    assert [w > 0 for w in weights.tolist()] == [bit == "1" for bit in bits]
    assert weights.abs().unique().tolist() == [(2 / 100) ** 0.5]


def test_random_features_draw_no_random_numbers() -> None:
    before = torch.get_rng_state()
    rand()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 28, 28), (3, 17, 40)])
def test_random_features_have_the_right_shape_and_do_not_depend_on_the_batch(shape: tuple[int, ...]) -> None:
    features = rand(shape[0])
    signals = torch.rand(5, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = features(signals)
    assert (found.shape, found.dtype) == ((5, features.dim), torch.float64)
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

    def distance(signals: Tensor) -> float:
        return frechet_distance(table, feature_table(features, [signals]))

    def blurred(factor: int) -> Tensor:
        return interpolate(avg_pool2d(held_out, factor), scale_factor=factor, mode="bilinear")

    families = [
        [held_out, *(held_out + scale * noise for scale in (0.1, 0.3, 0.9))],
        [held_out, *(blurred(factor) for factor in (2, 4, 8))],
        [held_out, *(held_out[label >= dropped] for dropped in (1, 2, 3))],
    ]
    for family in families:
        found = [distance(signals) for signals in family]
        assert found == sorted(found)
        assert found[1] > 1.3 * found[0]
        assert found[-1] > 10 * found[0]


@pytest.fixture(scope="module")
def random_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the 2015 network's shape, with random weights."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):
        def load_state_dict(self, *args: object, **kwargs: object) -> None:
            """Keep the initial weights."""

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Untrained("untrained", ["2048"], empty)
    path = tmp_path_factory.mktemp("weights") / NAMES[0]
    torch.save(network.state_dict(), path)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_missing_weights_name_the_places_and_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("DVGEN_WEIGHTS", raising=False)
    with pytest.raises(DataError) as caught:
        Inception(Inception.Config(), channels=3)
    text = str(caught.value)
    assert caught.value.exit_code == 3
    assert "$DVGEN_WEIGHTS (unset)" in text
    assert all(str(tmp_path / "torch" / "hub" / "checkpoints" / name) in text for name in NAMES)
    assert "https://github.com/toshas/torch-fidelity" in text
    assert "NOT comparable" in text


def test_weights_are_looked_for_in_the_given_folder_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("DVGEN_WEIGHTS", str(tmp_path / "own"))
    cached, own = (tmp_path / folder / NAMES[1] for folder in ("torch/hub/checkpoints", "own"))
    for path in (cached, own):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    assert find_weights() == own
    own.unlink()
    assert find_weights() == cached


def test_other_weights_are_refused_by_their_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / NAMES[0]).write_bytes(b"torchvision's")
    monkeypatch.setenv("DVGEN_WEIGHTS", str(tmp_path))
    with pytest.raises(DataError, match="expected 6726825d"):
        Inception(Inception.Config(), channels=3)


def test_a_file_that_is_not_a_table_of_weights_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    path = tmp_path / "file.pth"
    cases = [({"weight": Harmful()}, "cannot be read"), ([1, 2], "expected a table"), ({"w": torch.ones(1)}, "not the weights")]
    for content, reason in cases:
        torch.save(content, path)
        with pytest.raises(DataError, match=reason):
            load_network(path, sha256(path)[:8])
    assert not (tmp_path / "ran").exists()


def test_inception_is_torch_fidelitys_network_on_rounded_images(random_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colour and grey; equal to torch-fidelity fed with the 8-bit image, so its resize and not torchmetrics' default."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    monkeypatch.setenv("DVGEN_WEIGHTS", str(random_file.parent))
    monkeypatch.setattr(inception, "EXPECTED_HASH", sha256(random_file)[:8])
    before = torch.get_rng_state()
    features = Inception(Inception.Config(), channels=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert features.official
    assert features.weights_hash == sha256(random_file)
    pixels = torch.randint(256, (2, 1, 20, 20), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found = features.train()(from_uint8(pixels) + 1e-4)
    oracle = FeatureExtractorInceptionV3("oracle", ["2048"], str(random_file))
    expected = oracle(pixels.repeat(1, 3, 1, 1))[0]
    assert (found.shape, found.dtype) == ((2, 2048), torch.float64)
    assert float(expected.std()) > 0
    torch.testing.assert_close(found.float(), expected, rtol=1e-3, atol=1e-4 * float(expected.std()))
    colour = Inception(Inception.Config(), channels=3)
    assert torch.equal(colour(from_uint8(pixels.repeat(1, 3, 1, 1))), found)
    with pytest.raises(ShapeError, match="1, h, w"):
        features(torch.zeros(1, 3, 20, 20))
