"""Weight decay is for the weights of convolutions and linear layers: in every encoder, decoder, discriminator and prior."""

from typing import Any

import pytest
import torch
from torch import nn

from dvgen.blocks.weight_decay import decayed_linear_weights, decayed_weights
from dvgen.discovery import discover
from dvgen.interfaces.codes import Level
from dvgen.interfaces.context import ContextShape

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)
SIZES: dict[str, Any] = {"channels": 3, "dims": (4,)}
PARTS = [
    *(("encoder", name) for name in ("dalle", "vqgan", "vqvae", "vqvae-1d", "vqvae2")),
    *(("decoder", name) for name in ("dalle", "vqgan", "vqvae", "vqvae-1d", "vqvae2")),
    ("discriminator", "patchgan"),
]


def names(model: nn.Module, groups: list[dict[str, Any]]) -> tuple[set[str], set[str]]:
    """Of the parameters that decay, and of the others; each trainable one must stand in one group, once."""
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, spared = ([known[id(parameter)] for parameter in group["params"]] for group in groups)
    assert "weight_decay" not in groups[0]
    assert groups[1]["weight_decay"] == 0.0
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert sorted(decayed + spared) == sorted(trainable)
    return set(decayed), set(spared)


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_convolutions_decay_and_nothing_else_does(kind: str, name: str) -> None:
    cls = discover().registry.load(kind, name)
    sizes = {"channels": 3} if kind == "discriminator" else SIZES
    maps = {"dims": (4, 4)} if name == "vqvae2" else {}
    model = cls(cls.tiny(), **(sizes | maps))
    decayed, _ = names(model, model.parameter_groups())
    assert decayed == {f"{path}.weight" for path, module in model.named_modules() if isinstance(module, CONVOLUTIONS)}


@pytest.mark.parametrize("name", ["pixelcnn", "pixelsnail"])
def test_convolutional_priors_spare_biases_and_embeddings(name: str) -> None:
    cls = discover().registry.load("prior", name)
    model = cls(cls.tiny(), levels=(Level("fine", (4, 4), 5),), context=ContextShape((Level("top", (2, 2), 3),), 2))
    _, spared = names(model, model.parameter_groups())
    tables = {f"{path}.weight" for path, module in model.named_modules() if isinstance(module, nn.Embedding)}
    assert len(tables) == 3
    assert spared == tables | {path for path, _ in model.named_parameters() if path.endswith("bias")}


def test_norms_embeddings_and_what_is_not_trained_are_told_apart() -> None:
    model = nn.ModuleDict({"linear": nn.Linear(2, 3), "kernel": nn.Conv2d(2, 3, 3), "norm": nn.LayerNorm(4)})
    model["table"] = nn.Embedding(3, 2)
    model["frozen"] = nn.Linear(2, 2).requires_grad_(False)
    model["own"] = nn.ParameterList([nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))])
    assert names(model, decayed_weights(model))[0] == {"linear.weight", "kernel.weight", "own.0"}
    assert names(model, decayed_linear_weights(model))[0] == {"linear.weight"}
