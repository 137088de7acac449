"""The weight files of LPIPS: torchvision's, named when they are missing, never run."""

import hashlib
from pathlib import Path

import pytest
import torch

from dvgen.blocks.lpips_network import TRUNKS
from dvgen.errors import DataError
from dvgen_vqgan.perceptual import LPIPSLoss


def test_the_files_are_torchvisions() -> None:
    """Names and hashes as torchvision publishes them; a changed name is another network."""
    assert {net: (trunk.file, trunk.expected_hash) for net, trunk in TRUNKS.items()} == {
        "alex": ("alexnet-owt-7be5be79.pth", "7be5be79"),
        "vgg": ("vgg16-397923af.pth", "397923af"),
        "squeeze": ("squeezenet1_1-b8a52dc0.pth", "b8a52dc0"),
    }
    from torchvision.models import AlexNet_Weights, SqueezeNet1_1_Weights, VGG16_Weights

    published = {"alex": AlexNet_Weights, "vgg": VGG16_Weights, "squeeze": SqueezeNet1_1_Weights}
    urls = {net: weights.IMAGENET1K_V1.url for net, weights in published.items()}
    assert {net: trunk.weight_file.url for net, trunk in TRUNKS.items()} == urls


@pytest.mark.parametrize("net", sorted(TRUNKS))
def test_a_missing_file_is_named_with_its_places_and_its_source(
    net: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("DVGEN_WEIGHTS", str(tmp_path / "own"))
    with pytest.raises(DataError) as caught:
        LPIPSLoss(LPIPSLoss.Config(net=net))
    text = str(caught.value)
    file = TRUNKS[net].file
    assert caught.value.exit_code == 3
    assert f"net = '{net}'" in text
    assert text.index(str(tmp_path / "own" / file)) < text.index(str(tmp_path / "torch/hub/checkpoints" / file))
    assert f"https://download.pytorch.org/models/{file}" in text
    assert "lpips-untrained" in text
    assert "NOT a perceptual metric" in text


def test_the_folder_of_weights_may_begin_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell expands it where it is not quoted; a file of settings does not."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DVGEN_WEIGHTS", "~/weights")
    with pytest.raises(DataError, match=str(tmp_path / "weights" / TRUNKS["alex"].file)):
        LPIPSLoss(LPIPSLoss.Config(net="alex"))


def test_a_file_with_code_in_it_is_refused_and_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    path = tmp_path / "new"
    torch.save({"features.0.weight": Harmful()}, path)
    name = f"alexnet-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth"
    path.rename(tmp_path / name)
    monkeypatch.setenv("DVGEN_WEIGHTS", str(tmp_path))
    monkeypatch.setitem(TRUNKS, "alex", TRUNKS["alex"]._replace(file=name))
    with pytest.raises(DataError, match="cannot be read as weights"):
        LPIPSLoss(LPIPSLoss.Config(net="alex"))
    assert not (tmp_path / "ran").exists()
