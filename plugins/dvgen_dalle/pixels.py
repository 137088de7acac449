"""How DALL-E's discrete VAE sees pixels: mapped into an open interval, where their logits are bounded."""

from torch import Tensor

from dvgen.errors import ShapeError

MARGIN = 0.1
"""Pixels in [0, 1] are mapped to [MARGIN, 1 - MARGIN]: at 0 and 1 the density has no value (Ramesh et al., 2021, A.3)."""


def to_open_interval(signals: Tensor) -> Tensor:
    """Signals in [-1, 1] to [MARGIN, 1 - MARGIN] (equation 3, whose pixels are in [0, 255])."""
    return (1 - 2 * MARGIN) * (signals + 1) / 2 + MARGIN


def from_open_interval(pixels: Tensor) -> Tensor:
    """The inverse, clamped to [-1, 1]."""
    return (2 * (pixels - MARGIN) / (1 - 2 * MARGIN) - 1).clamp(-1, 1)


def halves(output: Tensor) -> tuple[Tensor, Tensor]:
    """mu and ln b (b, channels, *size) each, of what a decoder made, (b, 2 * channels, *size)."""
    if output.ndim < 2 or output.shape[1] % 2:
        raise ShapeError(f"logit-laplace: expected mu and ln b, (b, 2 * channels, *size), got shape {tuple(output.shape)}")
    mu, log_scale = output.chunk(2, dim=1)
    return mu, log_scale
