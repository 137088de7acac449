"""How close reconstructions come to their images, both rounded to 8 bits first."""

import torch
from einops import reduce
from torch import Tensor

from dvgen.errors import NonFiniteError, ShapeError
from dvgen.evaluation.measurement import Key

CAP = 100.0
"""The PSNR in dB of an image equal to its reconstruction, where it would be infinite and spoil the mean."""
WINDOW = 11
"""Pixels across of the window of SSIM: no smaller image has a value."""


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
    check_pair(reconstructed, signals)
    error = to_uint8(reconstructed).double() - to_uint8(signals).double()
    squared = reduce(error**2, "b ... -> b", "mean")
    return (10 * torch.log10(255.0**2 / squared)).clamp(max=CAP)


def psnr_key(data: str, split: str) -> Key:
    """The key of a mean PSNR; data: identity (a hash) of data set and transform."""
    protocol = {"data": data, "split": split, "rounding": "8 bits, nearest", "mean": "of images' PSNR", "cap": f"{CAP:g} dB"}
    return Key("PSNR", "dB", protocol, higher_is_better=True)


@torch.no_grad()
def ssim(reconstructed: Tensor, signals: Tensor) -> Tensor:
    """Structural similarity of each image, (b,) float64, 1 for equal ones; report the mean of these.

    Wang et al. 2004, with the Gaussian window of 11 pixels and sigma 1.5, by torchmetrics: means and covariances per channel,
    borders reflected, the mean over pixels and channels. Images (b, channels, h, w) of at least 11 x 11, rounded to 8 bits
    and in [0, 1] (their range is 1, whatever values an image has). In float32, ten times as fast as float64.
    Raises ShapeError for smaller images and for different shapes.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure  # 3 s of imports

    check_pair(reconstructed, signals)
    if signals.ndim != 4 or min(signals.shape[2:]) < WINDOW:
        raise ShapeError(
            f"SSIM compares images (b, channels, h, w) of at least {WINDOW} x {WINDOW}, got {tuple(signals.shape)}"
        )
    pair = (to_uint8(images).float() / 255 for images in (reconstructed, signals))
    return structural_similarity_index_measure(*pair, sigma=1.5, data_range=1.0, reduction="none").double()


def ssim_key(data: str, split: str) -> Key:
    """The key of a mean SSIM; data: identity (a hash) of data set and transform."""
    window = f"Gaussian {WINDOW} x {WINDOW}, sigma 1.5, borders reflected"
    protocol = {"data": data, "split": split, "rounding": "8 bits, nearest", "mean": "of images' SSIM", "window": window}
    return Key("SSIM", "", protocol | {"estimator": "torchmetrics"}, higher_is_better=True)


def check_pair(reconstructed: Tensor, signals: Tensor) -> None:
    """Raise ShapeError unless both have one shape: broadcasting would give a number all the same, and a wrong one."""
    if reconstructed.shape != signals.shape:
        raise ShapeError(f"expected two tensors of one shape, got {tuple(reconstructed.shape)} and {tuple(signals.shape)}")
