"""The features of FD-DINOv2, on a small network with the names of the published file."""

import hashlib
from pathlib import Path

import attrs
import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms.functional import InterpolationMode, normalize, resize, to_pil_image, to_tensor

from dvgen.errors import ConfigError, DataError, ShapeError
from dvgen.evaluation.reconstruction import from_uint8
from dvgen_features import dinov2
from dvgen_features.dinov2 import FILE, DINOv2Features

WIDTH, DEPTH, HEADS = 128, 2, 2


def table(side: int) -> dict[str, Tensor]:
    """Random weights: patches of 56 pixels (16 an image), positions learned on a grid of side x side."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.1

    weights = {
        "cls_token": drawn(1, 1, WIDTH),
        "pos_embed": drawn(1, 1 + side * side, WIDTH),
        "mask_token": drawn(1, WIDTH),
        "patch_embed.proj.weight": drawn(WIDTH, 3, 56, 56) * 0.1,
        "patch_embed.proj.bias": drawn(WIDTH),
        "norm.weight": 1 + drawn(WIDTH),
        "norm.bias": drawn(WIDTH),
    }
    for i in range(DEPTH):
        for name in ("norm1", "norm2"):
            weights |= {f"blocks.{i}.{name}.weight": 1 + drawn(WIDTH), f"blocks.{i}.{name}.bias": drawn(WIDTH)}
        layers = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (4, 1), "mlp.fc2": (1, 4)}
        for name, (out, into) in layers.items():
            weights |= {
                f"blocks.{i}.{name}.weight": drawn(out * WIDTH, into * WIDTH),
                f"blocks.{i}.{name}.bias": drawn(out * WIDTH),
            }
        weights |= {f"blocks.{i}.ls{j}.gamma": 1 + drawn(WIDTH) for j in (1, 2)}
    return weights


def features(weights: object, folder: Path, monkeypatch: pytest.MonkeyPatch, channels: int = 3) -> DINOv2Features:
    path = folder / FILE.names[0]
    torch.save(weights, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setenv("DVGEN_WEIGHTS", str(folder))
    monkeypatch.setattr(dinov2, "FILE", attrs.evolve(FILE, sha256=sha256[:8]))
    return DINOv2Features(DINOv2Features.Config(), channels=channels)


def prepared(pixels: Tensor) -> Tensor:
    """As dgm-eval prepares an image: torchvision's transforms on a Pillow image."""
    images = [resize(to_pil_image(image), [224, 224], InterpolationMode.BICUBIC) for image in pixels]
    return torch.stack([normalize(to_tensor(image), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]) for image in images])


@torch.no_grad()
def oracle(weights: dict[str, Tensor], images: Tensor, positions: Tensor) -> Tensor:
    """torch's own transformer layers, the scales of the branches folded into the weights of their last matrices."""
    patches = nn.functional.conv2d(images, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=56)
    x = torch.cat([weights["cls_token"].expand(len(images), -1, -1), patches.flatten(2).mT], dim=1) + positions
    for i in range(DEPTH):
        w = {name.removeprefix(f"blocks.{i}."): tensor for name, tensor in weights.items() if name.startswith(f"blocks.{i}.")}
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
        ).eval()
        names = {"self_attn.in_proj_": "attn.qkv.", "linear1.": "mlp.fc1.", "norm1.": "norm1.", "norm2.": "norm2."}
        state = {f"{mine}{part}": w[f"{theirs}{part}"] for mine, theirs in names.items() for part in ("weight", "bias")}
        for mine, theirs, gamma in (("self_attn.out_proj", "attn.proj", "ls1.gamma"), ("linear2", "mlp.fc2", "ls2.gamma")):
            state[f"{mine}.weight"] = w[f"{theirs}.weight"] * w[gamma][:, None]
            state[f"{mine}.bias"] = w[f"{theirs}.bias"] * w[gamma]
        layer.load_state_dict(state)
        x = layer(x)
    return nn.functional.layer_norm(x[:, 0], (WIDTH,), weights["norm.weight"], weights["norm.bias"], eps=1e-6)


def test_the_network_is_a_vision_transformer_on_images_as_dgm_eval_prepares_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = table(side=4)  # the grid of the patches: positions are used as they are
    before = torch.get_rng_state()
    found = features(weights, tmp_path, monkeypatch)
    assert torch.equal(torch.get_rng_state(), before)
    assert (found.label, found.dim, found.opt_in, found.official) == ("dinov2-vitl14", WIDTH, True, False)
    assert found.weights_hash == hashlib.sha256((tmp_path / FILE.names[0]).read_bytes()).hexdigest()
    pixels = torch.randint(256, (2, 3, 40, 30), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    expected = oracle(weights, prepared(pixels), weights["pos_embed"])
    out = found(from_uint8(pixels))
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
    assert float(out.std()) > 0.1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(found(from_uint8(pixels)), out, rtol=1e-5, atol=1e-5)


def test_positions_of_another_grid_are_stretched_with_the_networks_offset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a table of cubic weights (a = -0.75) at (i + 0.5) * 9 / 4.1 - 0.5: with 4 in place of 4.1, features are others."""
    weights = table(side=9)
    found = features(weights, tmp_path, monkeypatch, channels=1)
    pixels = torch.randint(256, (1, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    out = found(from_uint8(pixels))

    def cubic(x: Tensor) -> Tensor:
        near = 1.25 * x**3 - 2.25 * x**2 + 1
        return torch.where(x <= 1, near, torch.where(x < 2, -0.75 * (x**3 - 5 * x**2 + 8 * x - 4), torch.zeros_like(x)))

    def stretched(count: float) -> Tensor:
        at = (torch.arange(4) + 0.5) * 9 / count - 0.5
        matrix = torch.zeros(4, 9)
        for tap in range(-1, 3):  # the edge is repeated
            place = at.floor() + tap
            matrix.scatter_add_(1, place.clamp(0, 8).long()[:, None], cubic((at - place).abs())[:, None])
        square = weights["pos_embed"][0, 1:].reshape(9, 9, WIDTH)
        moved = torch.einsum("ih,jw,hwd->ijd", matrix, matrix, square).reshape(1, 16, WIDTH)
        return torch.cat([weights["pos_embed"][:, :1], moved], dim=1)

    images = prepared(pixels.repeat(1, 3, 1, 1))
    torch.testing.assert_close(out, oracle(weights, images, stretched(4.1)), rtol=1e-4, atol=1e-4)
    assert float((out - oracle(weights, images, stretched(4.0))).abs().max()) > 1e-3


def test_other_weights_and_other_signals_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVGEN_WEIGHTS", str(tmp_path / "nowhere"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="FD-DINOv2 needs the weights"):
        DINOv2Features(DINOv2Features.Config(), channels=3)
    whole = table(side=4)
    registers = whole | {"register_tokens": torch.zeros(1, 4, WIDTH)}  # of the variant with registers, another network
    for weights in ({"a": torch.ones(1)}, registers, {k: v for k, v in whole.items() if k != "blocks.1.ls2.gamma"}):
        with pytest.raises(DataError, match="not the weights of a DINOv2 vision transformer"):
            features(weights, tmp_path, monkeypatch)
    with pytest.raises(ConfigError, match="1 or 3 channels, got 2"):
        features(whole, tmp_path, monkeypatch, channels=2)
    for shape in ((1, 1, 32, 32), (1, 3, 4000)):
        with pytest.raises(ShapeError, match="3, h, w"):
            features(whole, tmp_path, monkeypatch)(torch.zeros(shape))
