"""How loud a sound is, frequency by frequency and moment by moment."""

import torch
from einops import rearrange
from torch import Tensor

FLOOR = -80.0
"""Decibels below which everything counts as silence: a little above what rounding to 16 bits leaves in one frequency."""


def spectrogram(signals: Tensor, *, window: int = 256, hop: int = 64) -> Tensor:
    """Decibels (b, channels, window / 2 + 1, 1 + t // hop) float64 of sound (b, channels, t), from FLOOR upwards.

    0 dB is a sine of amplitude 1 whose frequency is in the middle of a band. Band k is the frequency k * rate / window;
    column i looks at `window` samples around sample i * hop through a Hann window, with silence beyond both ends.
    """
    batch, channels, _ = signals.shape
    hann = torch.hann_window(window, dtype=torch.float64, device=signals.device)
    flat = rearrange(signals.double(), "b c t -> (b c) t")
    spectrum = torch.stft(flat, window, hop, window=hann, center=True, pad_mode="constant", return_complex=True)
    amplitude = 2 * spectrum.abs() / hann.sum()
    decibels = 20 * amplitude.clamp(min=10 ** (FLOOR / 20)).log10()
    return rearrange(decibels, "(b c) frequency time -> b c frequency time", b=batch, c=channels)
