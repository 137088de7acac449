"""LPIPS is the lpips package's number, from files that are checked and never fetched."""

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from dvgen.blocks import lpips_network
from dvgen.blocks.lpips_network import TRUNKS
from dvgen.config import structure
from dvgen.errors import ConfigError, DataError, ShapeError
from dvgen.interfaces.loss import Loss
from dvgen_vqgan.perceptual import LPIPSLoss, UntrainedLPIPSLoss

NETS = sorted(TRUNKS)
ALL_NETS = pytest.mark.parametrize("net", NETS)
TORCHVISION = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}
TAPS = {"alex": [1, 4, 7, 9, 11], "vgg": [3, 8, 15, 22, 29], "squeeze": [1, 4, 7, 9, 10, 11, 12]}
"""Layers of torchvision's `features` behind which LPIPS looks: the last ReLU of every block, and every later Fire module."""

Make = Callable[[str], LPIPSLoss]


class Files:
    """Weight files as torchvision writes them, with random weights, under names that end in their own hash."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: dict[str, tuple[str, dict[str, Tensor]]] = {}

    def name(self, net: str) -> str:
        """The file of this net, written when it is first asked for."""
        if net not in self.written:
            table = random_weights(net)
            path = self.folder / "new"
            torch.save(table | {"classifier.0.weight": torch.zeros(2)}, path)
            name = f"{net}-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth"
            path.rename(self.folder / name)
            self.written[net] = (name, table)
        return self.written[net][0]

    def table(self, net: str) -> dict[str, Tensor]:
        """The weights in that file."""
        self.name(net)
        return self.written[net][1]


def features_of(net: str) -> nn.Module:
    """torchvision's layers up to the last that LPIPS looks behind, without weights."""
    from torchvision import models

    with torch.device("meta"):
        return getattr(models, TORCHVISION[net])(weights=None).features[: TAPS[net][-1] + 1]


def random_weights(net: str) -> dict[str, Tensor]:
    """Variance 2 / fan-in, and small biases."""
    generator = torch.Generator().manual_seed(0)
    table = {}
    for name, weight in features_of(net).state_dict().items():
        scale = (2 / weight.shape[1:].numel()) ** 0.5 if weight.ndim > 1 else 0.05
        table[f"features.{name}"] = torch.randn(weight.shape, generator=generator) * scale
    return table


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def make(files: Files, monkeypatch: pytest.MonkeyPatch) -> Make:
    """The loss of a net, on the files of this module."""
    monkeypatch.setenv("DVGEN_WEIGHTS", str(files.folder))

    def made(net: str) -> LPIPSLoss:
        monkeypatch.setitem(TRUNKS, net, TRUNKS[net]._replace(file=files.name(net)))
        return LPIPSLoss(LPIPSLoss.Config(net=net))

    return made


def untrained() -> UntrainedLPIPSLoss:
    return UntrainedLPIPSLoss(UntrainedLPIPSLoss.Config())


def package(net: str, table: dict[str, Tensor]) -> Any:
    """lpips.LPIPS as its users make it, with these weights in its network."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lpips

        found = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    slices = {key: key.partition(".")[2] for key in found.net.state_dict()}
    found.requires_grad_(False).net.load_state_dict({key: table[f"features.{name}"] for key, name in slices.items()})
    return found


def float64_lpips(net: str, table: dict[str, Tensor], a: Tensor, b: Tensor) -> Tensor:
    """One value an image, step by step: ImageNet's mean and deviation, torchvision's layers, unit vectors, the heads."""
    import lpips

    heads = torch.load(Path(lpips.__file__).parent / f"weights/v0.1/{net}.pth", map_location="cpu", weights_only=True)
    layers = features_of(net).to_empty(device="cpu").double()
    layers.load_state_dict({name.removeprefix("features."): value.double() for name, value in table.items()})
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], dtype=torch.float64)[..., None, None]
    total = torch.zeros(len(a), dtype=torch.float64)
    x, y = (((image.double() + 1) / 2 - mean) / deviation for image in (a, b))
    for i, layer in enumerate(layers.children()):
        x, y = layer(x), layer(y)
        if i in TAPS[net]:
            head = heads[f"lin{TAPS[net].index(i)}.model.1.weight"].double()
            difference = x / x.norm(dim=1, keepdim=True) - y / y.norm(dim=1, keepdim=True)
            total += conv2d(difference**2, head).mean(dim=(1, 2, 3))
    return total


@ALL_NETS
def test_lpips_is_the_number_of_the_package(net: str, make: Make, files: Files) -> None:
    """The mean over the batch; grey as the colour image of equal channels."""
    loss, oracle = make(net), package(net, files.table(net))
    a, b = images(3, 3, 32, 32), images(3, 3, 32, 32, seed=1)
    values = oracle(a, b).flatten()
    assert float(values.min()) > 1e-3
    torch.testing.assert_close(loss(a, b), values.mean(), rtol=1e-5, atol=0)
    grey = a[:, :1].repeat(1, 3, 1, 1), b[:, :1].repeat(1, 3, 1, 1)
    torch.testing.assert_close(loss(a[:, :1], b[:, :1]), oracle(*grey).mean(), rtol=1e-5, atol=0)


@ALL_NETS
def test_lpips_is_its_formula_in_float64(net: str, make: Make, files: Files) -> None:
    a, b = images(2, 3, 33, 40), images(2, 3, 33, 40, seed=1)
    expected = float64_lpips(net, files.table(net), a, b).mean()
    # not closer: the package holds its constants and heads in float32
    torch.testing.assert_close(make(net).double()(a.double(), b.double()), expected, rtol=1e-6, atol=0)


@ALL_NETS
def test_lpips_is_a_constant(net: str, make: Make, capfd: pytest.CaptureFixture[str]) -> None:
    """No parameter, nothing to save, always in evaluation mode, silent, and no random number drawn."""
    before = torch.get_rng_state()
    loss = make(net)
    assert torch.equal(torch.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")
    assert list(loss.parameters()) == []
    assert loss.state_dict() == {}
    assert [group["params"] for group in loss.parameter_groups()] == [[]]
    assert not any(buffer.is_meta or buffer.requires_grad for buffer in loss.buffers())
    a, b = images(1, 3, 32, 32), images(1, 3, 32, 32, seed=1)
    value = loss(a, b)
    loss.train()
    assert not any(module.training for module in loss.modules())
    assert torch.equal(loss(a, b), value)


@pytest.mark.parametrize("name", ["squeeze", "untrained"])
def test_only_the_reconstruction_receives_a_gradient(name: str, make: Make) -> None:
    loss: Loss = untrained() if name == "untrained" else make(name)
    a, b = images(2, 3, 32, 32).requires_grad_(), images(2, 3, 32, 32, seed=1).requires_grad_()
    loss(a, b).backward()
    assert b.grad is None
    assert a.grad is not None
    assert all(bool(gradient.abs().sum() > 0) for gradient in a.grad)


@pytest.mark.parametrize("name", ["alex", "untrained"])
def test_the_gradient_is_the_slope(name: str, make: Make) -> None:
    """Along a random direction, against differences in float64."""
    loss = (untrained() if name == "untrained" else make(name)).double()
    a, b, direction = (images(1, 3, 32, 32, seed=seed).double() for seed in range(3))
    a.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(a, b), a)
    step = 1e-6
    with torch.no_grad():
        slope = (loss(a + step * direction, b) - loss(a - step * direction, b)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("name", ["alex", "squeeze", "untrained"])
@pytest.mark.parametrize("value", [0.0, 0.01, -1.0])
def test_equal_images_have_no_distance_and_a_finite_gradient(name: str, value: float, make: Make) -> None:
    loss: Loss = untrained() if name == "untrained" else make(name)
    for a in (images(2, 3, 32, 32), torch.full((2, 3, 32, 32), value)):
        reconstruction = a.clone().requires_grad_()
        distance = loss(reconstruction, a)
        distance.backward()
        assert distance.item() == 0
        assert reconstruction.grad is not None
        assert not reconstruction.grad.any()


@ALL_NETS
def test_the_smallest_images_are_the_smallest_that_the_network_takes(net: str, make: Make, files: Files) -> None:
    loss, least = make(net), TRUNKS[net].least
    assert loss(images(1, 3, least, least), images(1, 3, least, least, seed=1)).isfinite()
    small = images(1, 3, 64, least - 1)
    with pytest.raises(RuntimeError, match="too small"):
        features_of(net)(small.to("meta"))
    with pytest.raises(ShapeError, match=rf"net = '{net}' takes images of at least {least} x {least}, got 64 x {least - 1}"):
        loss(small, small)


@pytest.mark.parametrize("name", ["squeeze", "untrained"])
def test_what_cannot_be_compared_is_refused(name: str, make: Make) -> None:
    loss: Loss = untrained() if name == "untrained" else make(name)
    with pytest.raises(ShapeError, match=r"reconstructions \(1, 3, 32, 32\)"):
        loss(torch.zeros(1, 3, 32, 32), torch.zeros(2, 3, 32, 32))
    for shape in ((2, 2, 32, 32), (2, 1, 32), (3, 32, 32)):
        with pytest.raises(ShapeError, match=r"images \(b, 1 or 3, h, w\) and nothing else"):
            loss(torch.zeros(shape), torch.zeros(shape))


def test_a_head_that_the_package_has_renamed_is_told(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = lpips_network._heads("alex")
    renamed = {name.replace("lin3", "head3"): weight for name, weight in heads.items()}
    monkeypatch.setattr(lpips_network, "_heads", lambda net: renamed)
    with pytest.raises(DataError, match=r"no weights for lin3\.model\.1\.weight of net = 'alex'"):
        make("alex")


@ALL_NETS
def test_another_content_under_the_official_name_is_refused(net: str, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of the right shape, even: the number would look like LPIPS and be none."""
    official = files.folder / TRUNKS[net].file
    official.symlink_to(files.folder / files.name(net))
    monkeypatch.setenv("DVGEN_WEIGHTS", str(files.folder))
    found = files.name(net).removesuffix(".pth").rpartition("-")[2]
    with pytest.raises(DataError, match=f"begins with {found}, expected {TRUNKS[net].expected_hash}"):
        LPIPSLoss(LPIPSLoss.Config(net=net))
    official.unlink()


def test_an_unknown_net_is_refused() -> None:
    with pytest.raises(ConfigError, match="net"):
        structure({"net": "resnet"}, LPIPSLoss.Config)
