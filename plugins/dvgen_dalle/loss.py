"""The reconstruction loss of DALL-E's discrete VAE."""

import math
from typing import final

import torch
from attrs import frozen
from torch import Tensor
from torch.nn import functional as F

from dvgen.errors import ShapeError
from dvgen.interfaces.loss import Loss
from dvgen_dalle.pixels import halves, to_open_interval

SMALLEST = -7.0
"""The least ln b that counts, so that 1/b stays finite: pixels of one value would have b fall without end.

Below it a gradient that raises ln b still passes, or what had fallen too far could not come back.
Neighbouring values of 8 bits are 0.0125 apart in the logit, or more; b is then fourteen times less.
"""


@final
class LogitLaplaceLoss(Loss):
    """Minus ln f(x | mu, b) = ln 2 + ln b + ln x + ln(1 - x) + |logit x - mu| / b, in nats a channel and place.

    f is the density of the sigmoid of a Laplace variable, x the signal mapped to [0.1, 0.9]. Ramesh et al. (2021), appendix
    A.3, equations 2 and 3. It is a density, so the loss may be negative.
    """

    reads = "logit-laplace"

    @frozen(kw_only=True)
    class Config:
        """Nothing to set."""

    def __init__(self, config: Config) -> None:
        super().__init__()

    def forward(self, reconstructed: Tensor, signals: Tensor) -> Tensor:
        """A scalar from mu and ln b (b, 2c, *size) and signals (b, c, *size) in [-1, 1], in float32 or wider.

        Raises ShapeError when they do not fit each other.
        """
        mu, log_scale = (part.to(torch.promote_types(part.dtype, torch.float32)) for part in halves(reconstructed))
        if mu.shape != signals.shape:
            raise ShapeError(f"logit-laplace: signals have shape {tuple(signals.shape)}, their mu {tuple(mu.shape)}")
        logit = to_open_interval(signals.to(mu.dtype)).logit()
        distance = (logit - mu).abs()
        log_scale = _bounded(log_scale, distance)
        # ln x = -softplus(-logit x) and ln(1 - x) = -softplus(logit x)
        jacobian = F.softplus(logit) + F.softplus(-logit)
        return (math.log(2) + log_scale - jacobian + distance * (-log_scale).exp()).mean()


def _bounded(log_scale: Tensor, distance: Tensor) -> Tensor:
    """max(ln b, SMALLEST); below, it has the gradient of SMALLEST, 1 - distance / b, where that is negative, so raises ln b."""
    bounded = log_scale.clamp(min=SMALLEST)
    passing = bounded.detach() + (log_scale - log_scale.detach())
    return torch.where(distance > math.exp(SMALLEST), passing, bounded)
