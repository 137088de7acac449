"""How close reconstructions come to their signals, both rounded to 8 bits first."""

import torch
from einops import reduce
from torch import Tensor

from dvgen.errors import NonFiniteError, ShapeError
from dvgen.evaluation.measurement import Key

CAP = 100.0
"""The PSNR in dB of an image equal to its reconstruction, where it would be infinite and spoil the mean."""


def to_uint8(signals: Tensor) -> Tensor:
    """Signals in [-1, 1] to 0..255, rounded to the nearest and clamped. Raises NonFiniteError for NaN and infinities.

    Rounded, not truncated: a cast alone brings a quarter of all grey levels back one lower.
    """
    if not bool(signals.isfinite().all()):
        raise NonFiniteError(f"signals of shape {tuple(signals.shape)} hold a value that is not finite")
    return ((signals + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_uint8(pixels: Tensor) -> Tensor:
    """0..255 to float32 signals in [-1, 1]; `to_uint8` gives back the same numbers."""
    return pixels.float() / 127.5 - 1


def psnr(reconstructed: Tensor, signals: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, (b,) float64, at most CAP; report the mean of these.

    10 log10(255^2 / mean squared error) after both (b, channels, *size) are rounded to 8 bits. Pooling the squared error
    over images before the logarithm is another number, lower by several dB.
    """
    if reconstructed.shape != signals.shape:
        raise ShapeError(f"expected two tensors of one shape, got {tuple(reconstructed.shape)} and {tuple(signals.shape)}")
    error = to_uint8(reconstructed).double() - to_uint8(signals).double()
    squared = reduce(error**2, "b ... -> b", "mean")
    return (10 * torch.log10(255.0**2 / squared)).clamp(max=CAP)


def psnr_key(data: str, split: str) -> Key:
    """The key of a mean PSNR; data: identity (a hash) of data set and transform."""
    protocol = {"data": data, "split": split, "rounding": "8 bits, nearest", "mean": "of images' PSNR", "cap": f"{CAP:g} dB"}
    return Key("PSNR", "dB", protocol, higher_is_better=True)
