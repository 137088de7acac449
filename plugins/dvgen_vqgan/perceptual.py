"""Perceptual losses: LPIPS, and its formula on a network that was never trained."""

from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from attrs import field, frozen
from attrs.validators import in_
from torch import Tensor
from torch.nn.functional import conv2d, relu

from dvgen.blocks.lpips_network import TRUNKS, load_lpips
from dvgen.blocks.signed_weights import signed_weights
from dvgen.errors import ShapeError
from dvgen.interfaces.loss import Loss

EPSILON = 1e-10
"""Added to the length of a feature vector, as in the lpips package."""

Features = Callable[[Tensor], Sequence[Tensor]]


@final
class LPIPSLoss(Loss):
    """LPIPS, version 0.1: the distance of two images in the layers of a network that was trained to classify ImageNet.

    Zhang et al. 2018 (arXiv 1801.03924), equation 1; the perceptual term of VQGAN. Images in [-1, 1], grey repeated to
    three channels; the mean over the batch of `perceptual_distance`. The linear weights come with the lpips package; the
    network's own are looked for as `load_lpips` says, and never fetched. Nothing is trained, saved or counted, and only
    the reconstruction receives a gradient.
    Raises DataError when the network's weights are missing, ShapeError for images that the network cannot take.
    """

    @frozen(kw_only=True)
    class Config:
        """net: "vgg" (VGG-16, what VQGAN minimises), "alex" (AlexNet, what is mostly reported) or "squeeze" (the cheapest)."""

        net: str = field(default="vgg", validator=in_(tuple(TRUNKS)))

    weight_files = tuple(trunk.weight_file for trunk in TRUNKS.values())

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.name = f"lpips of net = {config.net!r}"
        self.least = TRUNKS[config.net].least
        self.network: Any = load_lpips(config.net)
        self.train(False)

    def train(self, mode: bool = True) -> "LPIPSLoss":
        """Stay in evaluation mode: the package's linear layers drop out in training."""
        return super().train(False)

    def forward(self, reconstructed: Tensor, signals: Tensor) -> Tensor:
        """A scalar from images (b, 1 or 3, h, w). Raises ShapeError for others, or when the shapes differ."""
        _check(self.name, reconstructed, signals, self.least)
        heads = [head.model[-1].weight.flatten() for head in self.network.lins]
        return _mean_distance(self._features, heads, reconstructed, signals)

    def _features(self, images: Tensor) -> Sequence[Tensor]:
        return self.network.net(self.network.scaling_layer(images))


@final
class UntrainedLPIPSLoss(Loss):
    """NOT a perceptual metric: the formula of LPIPS on a small random network, with linear weights of 1.

    For tests and for machines without weights: it needs no file, costs little, has no state and is the same everywhere.
    What it prefers is an accident of its random weights, and no value of it may be compared with LPIPS.

    Three 3x3 convolutions of stride 2 with ReLU; every ReLU is a layer of the distance. Weights are the signs of
    `signed_weights`. So are the biases, +-sqrt(2)/4 in every layer: without them the features of a grey image (0 everywhere,
    which an untrained decoder almost gives) would vanish, and the slope of their direction would be huge.
    """

    @frozen(kw_only=True)
    class Config:
        """Nothing to set."""

    WIDTHS = (3, 16, 32, 32)

    def __init__(self, config: Config) -> None:
        super().__init__()
        for i, (inputs, outputs) in enumerate(zip(self.WIDTHS, self.WIDTHS[1:], strict=False)):
            name = f"lpips-untrained:v1/{i}"
            self.register_buffer(f"weight{i}", signed_weights(name, (outputs, inputs, 3, 3)).float(), persistent=False)
            self.register_buffer(f"bias{i}", signed_weights(f"{name}/bias", (outputs,)).float() / 4, persistent=False)

    def forward(self, reconstructed: Tensor, signals: Tensor) -> Tensor:
        """A scalar from images (b, 1 or 3, h, w). Raises ShapeError for others, or when the shapes differ."""
        _check("lpips-untrained", reconstructed, signals, least=1)
        heads = [signals.new_ones(width) for width in self.WIDTHS[1:]]
        return _mean_distance(self._features, heads, reconstructed, signals)

    def _features(self, images: Tensor) -> Sequence[Tensor]:
        layers: list[Tensor] = []
        for i in range(len(self.WIDTHS) - 1):
            x = layers[-1] if layers else images
            weight, bias = self.get_buffer(f"weight{i}"), self.get_buffer(f"bias{i}")
            layers.append(relu(conv2d(x, weight, bias, stride=2, padding=1)))
        return layers


def perceptual_distance(a: Sequence[Tensor], b: Sequence[Tensor], heads: Sequence[Tensor]) -> Tensor:
    """sum over layers of mean over places of sum over channels of head * (unit(a) - unit(b))^2: one value an image, (b,).

    a, b: one map (b, channels, h, w) a layer. heads: (channels,) each, not negative; the squares of w in equation 1.
    """
    terms = [
        (_unit(x) - _unit(y)).square().mean(dim=(2, 3)) @ head  # places first: the order of two sums that costs less
        for x, y, head in zip(a, b, heads, strict=True)
    ]
    return torch.stack(terms).sum(dim=0)


def _unit(features: Tensor) -> Tensor:
    """Vectors along the channels, at length 1; 0 stays 0."""
    squares = features.square().sum(dim=1, keepdim=True)
    # where all channels are 0 the root has no slope, and its gradient would be NaN
    return features / (squares.clamp(min=EPSILON**2).sqrt() + EPSILON)


def _mean_distance(features: Features, heads: Sequence[Tensor], reconstructed: Tensor, signals: Tensor) -> Tensor:
    with torch.no_grad():
        real = features(_coloured(signals))
    return perceptual_distance(features(_coloured(reconstructed)), real, heads).mean()


def _coloured(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1)


def _check(name: str, reconstructed: Tensor, signals: Tensor, least: int) -> None:
    if reconstructed.shape != signals.shape:  # broadcasting would give a number all the same, and a wrong one
        raise ShapeError(f"{name}: signals have shape {tuple(signals.shape)}, reconstructions {tuple(reconstructed.shape)}")
    if signals.ndim != 4 or signals.shape[1] not in (1, 3):
        raise ShapeError(f"{name} compares images (b, 1 or 3, h, w) and nothing else, got {tuple(signals.shape)}")
    if min(signals.shape[2:]) < least:
        raise ShapeError(f"{name} takes images of at least {least} x {least}, got {signals.shape[2]} x {signals.shape[3]}")
