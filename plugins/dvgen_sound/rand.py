"""Fixed random networks on spectrograms: features of sound on any machine, without a file, the same for everybody."""

from typing import final

import torch
from attrs import frozen
from einops import rearrange
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d, avg_pool1d, conv1d, linear, relu

from dvgen.blocks.signed_weights import signed_weights, weights_hash
from dvgen.blocks.spectrogram import spectrogram
from dvgen.errors import ConfigError, ShapeError
from dvgen.interfaces.features import Features

SHORTEST = 1024
SILENCE = -50.0
"""Decibels that count as nothing: with a lower floor, faint noise in all the empty bands would outweigh the melody."""
SHAPES = {
    "conv0": (64, 129, 3),
    "conv1": (64, 64, 3),
    "conv2": (64, 64, 3),
    "projection": (64, 64 * 4),
}
"""The weights of a network, output first; every other dimension is the fan-in."""


@final
class RandomSoundFeatures(Features):
    """Mono sound of at least 1024 samples to 64 numbers for each of three networks.

    A spectrogram (windows of 256 samples, 64 apart; loudness in decibels, -50 to 0 brought to 0 to 1), whose 129 bands are
    the channels of three convolutions over time of width 3 with ReLU, halved after the first two, averaged to four parts of
    the clip, projected. Convolutions run over time alone, because a melody one band higher is another melody. What `rand`
    says of random networks holds here too: values compare only with values of the same weights.

    Weights are those of SHA-256, +-sqrt(2 / fan_in), and all is in float64, as in `rand`. Phase is not heard.
    """

    @frozen(kw_only=True)
    class Config:
        """Nothing to choose: another choice would be another measure."""

    dim = 64
    members = 3
    label = "rand-sound:v2"

    def __init__(self, config: Config, *, channels: int) -> None:
        super().__init__()
        if channels != 1:
            raise ConfigError(f"features 'rand-sound' take sound of 1 channel, got {channels} channels; use data in mono")
        for name, shape in SHAPES.items():
            networks = [signed_weights(f"{self.label}/{network}/{name}", shape) for network in range(self.members)]
            self.register_buffer(name, torch.stack(networks))
        self.weights_hash = weights_hash(self.get_buffer(name) for name in SHAPES)

    def forward(self, signals: Tensor) -> Tensor:
        if signals.ndim != 3 or signals.shape[1] != 1 or signals.shape[2] < SHORTEST:
            raise ShapeError(
                f"features 'rand-sound' expected sound (b, 1, t) of at least {SHORTEST} samples, got {tuple(signals.shape)}"
            )
        loudness = relu(1 - spectrogram(signals) / SILENCE)
        heard = rearrange(loudness, "b 1 frequency time -> b frequency time")
        return torch.cat([self._member(i, heard) for i in range(self.members)], dim=1)

    def _member(self, i: int, loudness: Tensor) -> Tensor:
        """The features (b, dim) of one network, from (b, frequency, time)."""
        conv0, conv1, conv2, projection = (self.get_buffer(name)[i] for name in SHAPES)
        x = avg_pool1d(relu(conv1d(loudness, conv0, padding=1)), 2)
        x = avg_pool1d(relu(conv1d(x, conv1, padding=1)), 2)
        x = relu(conv1d(x, conv2, padding=1))
        pooled = rearrange(adaptive_avg_pool1d(x, 4), "b c part -> b (c part)")
        return linear(pooled, projection)
