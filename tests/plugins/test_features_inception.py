"""FID's features are loaded from FID's file or not at all, and images come to them as the protocol says."""

import hashlib
import io
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor

from dvgen.errors import ConfigError, DataError, ShapeError
from dvgen.evaluation.reconstruction import from_uint8
from dvgen_features import inception
from dvgen_features.inception import FILE, Inception, InceptionOfPyTorchFID, load_layers

NAMES = FILE.names
BOTH = [Inception, InceptionOfPyTorchFID]


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
    path = tmp_path_factory.mktemp("weights") / NAMES[1]
    torch.save(network.state_dict(), path)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def official(random_file: Path) -> Inception:
    """On the random file, under a record with its hash, found where it is looked for. Building one takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVGEN_WEIGHTS", str(random_file.parent))
        patch.setattr(inception, "FILE", attrs.evolve(FILE, sha256=sha256(random_file)[:8]))
        before = torch.get_rng_state()
        features = Inception(Inception.Config(), channels=3).train()
        assert torch.equal(torch.get_rng_state(), before)
    return features


@pytest.fixture(scope="module")
def other(official: Inception) -> InceptionOfPyTorchFID:
    """On the same layers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception, "load_layers", lambda file: (official.layers, official.weights_hash))
        return InceptionOfPyTorchFID(InceptionOfPyTorchFID.Config(), channels=3).train()


@pytest.fixture(scope="module")
def grey(official: Inception) -> Inception:
    """On the same layers, for grey images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception, "load_layers", lambda file: (official.layers, official.weights_hash))
        return Inception(Inception.Config(), channels=1)


def pixels(*shape: int) -> Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize("cls", BOTH)
def test_missing_weights_name_the_places_and_the_way_out(cls: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("DVGEN_WEIGHTS", raising=False)
    with pytest.raises(DataError) as caught:
        cls(cls.Config(), channels=3)
    text = str(caught.value)
    assert caught.value.exit_code == 3
    assert text.startswith("FID needs the 2015 Inception weights, which are not on this machine.\n")
    assert "$DVGEN_WEIGHTS (unset)" in text
    assert all(str(tmp_path / "torch" / "hub" / "checkpoints" / name) in text for name in NAMES)
    assert "https://github.com/toshas/torch-fidelity" in text
    assert "dvgen weights add FILE" in text
    assert "--metric fd-clf,fd-rand" in text
    assert "NOT comparable" in text


def test_other_weights_are_refused_by_their_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / NAMES[0]).write_bytes(b"another network")
    monkeypatch.setenv("DVGEN_WEIGHTS", str(tmp_path))
    with pytest.raises(DataError, match="expected 6726825d; it is another file or damaged"):
        Inception(Inception.Config(), channels=3)


def test_torchvisions_inception_is_refused_by_its_hash_and_called_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """inception_v3_google-0cc3c7bd.pth, renamed: torchvision's custom is that the hash begins as the name ends."""
    monkeypatch.setenv("DVGEN_WEIGHTS", str(tmp_path))
    content = b"for torchvision's file"
    (told,) = FILE.mistaken.items()
    assert told[0] == "0cc3c7bd"
    begin = hashlib.sha256(content).hexdigest()[:8]
    (tmp_path / NAMES[0]).write_bytes(content)
    monkeypatch.setattr(inception, "FILE", attrs.evolve(FILE, mistaken={begin: told[1]}))
    with pytest.raises(DataError, match=r"torchvision's Inception .* another network, of which there is no FID"):
        Inception(Inception.Config(), channels=3)


def test_a_file_that_is_not_a_table_of_weights_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    monkeypatch.setenv("DVGEN_WEIGHTS", str(tmp_path))
    path = tmp_path / NAMES[0]
    cases = [({"weight": Harmful()}, "cannot be read"), ([1, 2], "expected a table"), ({"w": torch.ones(1)}, "not the weights")]
    for content, reason in cases:
        torch.save(content, path)
        with pytest.raises(DataError, match=reason):
            load_layers(attrs.evolve(FILE, sha256=sha256(path)[:8]))
    assert not (tmp_path / "ran").exists()


def test_inception_is_torch_fidelitys_network_on_rounded_images(
    official: Inception, grey: Inception, random_file: Path
) -> None:
    """Colour and grey; equal to torch-fidelity fed with the 8-bit image, so its resize and not torchmetrics' default."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    assert official.official
    assert not official.opt_in
    assert official.weights_hash == sha256(random_file)
    image = pixels(1, 1, 20, 20)
    found = grey(from_uint8(image) + 1e-4)
    expected = FeatureExtractorInceptionV3("oracle", ["2048"], str(random_file))(image.repeat(1, 3, 1, 1))[0]
    assert (found.shape, found.dtype) == ((1, 2048), torch.float64)
    assert float(expected.std()) > 0
    torch.testing.assert_close(found.float(), expected, rtol=1e-3, atol=1e-4 * float(expected.std()))
    assert torch.equal(official(from_uint8(image.repeat(1, 3, 1, 1))), found)
    with pytest.raises(ShapeError, match="1, h, w"):
        grey(torch.zeros(1, 3, 20, 20))


@pytest.mark.parametrize("across", [32, 310])
def test_torchmetrics_network_gives_the_same_only_without_its_antialias(
    official: Inception, random_file: Path, across: int
) -> None:
    """The default since torchmetrics 1.8 is another protocol, for small images as for those above 299 pixels."""
    from torchmetrics.image.fid import NoTrainInceptionV3

    image = pixels(1, 3, across, across)
    network = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(random_file))
    assert network.use_antialias
    default = network(image)[0]
    network.use_antialias = False
    exact = network(image)[0].reshape(1, -1)
    scale = float(exact.std())
    found = official(from_uint8(image)).float()
    torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-4 * scale)
    assert float((found - default).abs().max()) > 0.01 * scale


def test_every_grey_level_comes_back_from_its_signal() -> None:
    """Truncation, as in torchmetrics' own path from [0, 1], brings 63 of the 256 levels back one lower."""
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    signals = from_uint8(levels)
    assert torch.equal(inception._pixels("", signals, 1), levels.repeat(1, 3, 1, 1))
    truncated = ((signals + 1) / 2 * 255).byte()
    assert int((truncated != levels).sum()) == 63


def test_features_do_not_depend_on_the_batch_or_on_autocast(official: Inception) -> None:
    """Single precision shows both. Asking torch-fidelity 0.4.0 for "float64" gives it."""
    assert {tensor.dtype for tensor in official.state_dict().values()} == {torch.float64, torch.int64}
    signals = from_uint8(pixels(2, 3, 16, 16))
    whole = official(signals)
    close = {"rtol": 1e-12, "atol": 1e-12 * float(whole.std())}
    torch.testing.assert_close(torch.cat([official(s) for s in signals.split(1)]), whole, **close)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(official(signals), whole, **close)


@pytest.mark.parametrize("across", [20, 310])
def test_the_other_protocol_is_pytorch_fids(official: Inception, other: InceptionOfPyTorchFID, across: int) -> None:
    """[0, 1], bilinear about centres of pixels without antialias, 2 x - 1: resized here from weights written out in numpy."""
    assert other.opt_in
    assert not other.official
    assert not other.training
    assert other.weights_hash == official.weights_hash
    image = pixels(1, 3, across, across)
    matrix = bilinear(across)
    resized = matrix @ (image.double().numpy() / 255) @ matrix.T
    with torch.no_grad():
        expected = official.layers(torch.from_numpy(2 * resized - 1)).flatten(1)
    scale = float(expected.std())
    found = other(from_uint8(image))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6 * scale)
    assert float((found - official(from_uint8(image))).abs().max()) > 0.01 * scale


def bilinear(across: int) -> np.ndarray:
    """(299, across): the weights of pixels along one axis, by linear interpolation between their centres."""
    centres = ((np.arange(299) + 0.5) * across / 299 - 0.5).clip(0, across - 1)
    return np.stack([np.interp(centres, np.arange(across), unit) for unit in np.eye(across)], axis=1)


def test_the_layers_end_in_the_pooled_features(official: Inception) -> None:
    """And not in the classifier after them, nor before the last pooling."""
    assert [type(layer).__name__ for layer in list(official.layers)[-2:]] == ["InceptionE_2", "AdaptiveAvgPool2d"]


@pytest.mark.parametrize("cls", BOTH)
def test_channels_are_refused_before_a_file_is_looked_for(cls: type) -> None:
    with pytest.raises(ConfigError, match="1 or 3 channels, got 2"):
        cls(cls.Config(), channels=2)
