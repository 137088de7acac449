"""Fixed random networks: features on any machine, without a file, the same for everybody."""

from typing import final

import torch
from attrs import frozen
from einops import rearrange, repeat
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, conv2d, linear, relu

from dvgen.blocks.signed_weights import signed_weights, weights_hash
from dvgen.errors import ConfigError, ShapeError
from dvgen.interfaces.features import Features

SHAPES = {
    "conv0": (32, 3, 3, 3),
    "conv1": (64, 32, 3, 3),
    "conv2": (64, 64, 3, 3),
    "projection": (64, 64 * 4 * 4),
}
"""The weights of a network, output first; every other dimension is the fan-in."""
LEAST = 16
PART = 1 << 14
"""Pixels of images that are computed at a time: their maps stay in the processor's cache, which halves the time."""


@final
class RandomFeatures(Features):
    """Images of at least 16 x 16 with 1 or 3 channels to 64 numbers for each of three networks.

    Three 3x3 convolutions with ReLU, halved after the first two, averaged to 4x4, projected. Features of random networks
    judge generators much as those of trained ones do (Lee, Kim and Lee 2022, arXiv 2208.09218), but react more to noise
    and less to missing classes. What one random network says is partly an accident of its weights (distances differ by a
    factor of 2 between networks), so three are asked; values compare only with values of the same weights, and never with
    published FID.

    Every weight is +-sqrt(2 / fan_in) (the scale of He et al. 2015), its sign a bit of SHA-256: no generator whose stream
    a library might change. All in float64, so that TF32, autocast and the batch size do not show. Grey is repeated to
    three channels: the same networks, one hash.
    """

    @frozen(kw_only=True)
    class Config:
        """Nothing to choose: another choice would be another measure."""

    dim = 64
    members = 3
    label = "rand:v2"

    def __init__(self, config: Config, *, channels: int) -> None:
        super().__init__()
        if channels not in (1, 3):
            raise ConfigError(f"features 'rand' take images of 1 or 3 channels, got {channels}")
        self.channels = channels
        for name, shape in SHAPES.items():
            networks = [signed_weights(f"{self.label}/{network}/{name}", shape) for network in range(self.members)]
            self.register_buffer(name, torch.stack(networks))
        self.weights_hash = weights_hash(self.get_buffer(name) for name in SHAPES)

    def forward(self, signals: Tensor) -> Tensor:
        if signals.ndim != 4 or signals.shape[1] != self.channels or min(signals.shape[2:]) < LEAST:
            raise ShapeError(
                f"features 'rand' expected images (b, {self.channels}, h, w) of at least {LEAST} x {LEAST}, "
                f"got {tuple(signals.shape)}"
            )
        parts = signals.split(max(1, PART // signals.shape[2:].numel()))
        return torch.cat([torch.cat([self._member(i, part) for i in range(self.members)], dim=1) for part in parts])

    def _member(self, i: int, signals: Tensor) -> Tensor:
        """The features (b, dim) of one network."""
        conv0, conv1, conv2, projection = (self.get_buffer(name)[i] for name in SHAPES)
        x = repeat(signals.double(), "b c h w -> b (r c) h w", r=3 // self.channels)
        x = avg_pool2d(relu(conv2d(x, conv0, padding=1)), 2)
        x = avg_pool2d(relu(conv2d(x, conv1, padding=1)), 2)
        x = relu(conv2d(x, conv2, padding=1))
        pooled = rearrange(adaptive_avg_pool2d(x, (4, 4)), "b c h w -> b (c h w)")
        return linear(pooled, projection)
