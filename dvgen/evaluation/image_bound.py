"""A bound of the likelihood of images under both stages: what tokenizers of different codes can be compared by, and with
models of pixels. Images only: sound has no 8-bit values that everybody agrees on.

    -log p(x) <= -log p(z) - log p(x | z),    z the codes of x,

for p(x) is a sum over all codes, of which z is one. p(x | z) is a discretised logistic distribution (Salimans et al. 2017,
equation 2, with one component) around the reconstruction, its scale one number a channel.
"""

import math

import torch
from einops import rearrange, reduce
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import logsigmoid

from dvgen.errors import ShapeError
from dvgen.evaluation.reconstruction import to_uint8

LEVELS = 256
HALF = 1 / (LEVELS - 1)
"""Half the width of a value of 8 bits, where the least is -1 and the greatest 1."""
NARROWEST, WIDEST = HALF / 50, 4.0
"""Scales searched: at the least a value that is hit has all the probability, at the greatest the distribution is flat."""


def log_likelihood(values: Tensor, means: Tensor, scales: Tensor) -> Tensor:
    """log p of 8-bit values (0..255) in nats, float64: the logistic's mass on each; the least and greatest are open outwards.

    means: where they are expected, in [-1, 1]. scales: in the same unit. All of one shape, or broadcast.
    """
    scale = scales.double()
    centre = values.double() * 2 * HALF - 1 - means.double()
    low, high = (centre - HALF) / scale, (centre + HALF) / scale
    # the mass between a and b is sigmoid(b) sigmoid(-a) (1 - exp(a - b)), each factor exact far out in the tails
    inner = torch.log(-torch.expm1(-2 * HALF / scale))
    below, above = logsigmoid(high), logsigmoid(-low)
    return torch.where(values == 0, below, torch.where(values == LEVELS - 1, above, below + above + inner))


def fit_scales(originals: Tensor, reconstructed: Tensor) -> Tensor:
    """The scale of each channel under which training images are likeliest given their reconstructions: (channels,) float64.

    originals, reconstructed: (b, channels, height, width) in [-1, 1], of the training split. For other images the bound
    holds with any scale; fitted to those it is measured on, it would be too good. Raises ShapeError for sound.
    """
    values = to_uint8(_checked(originals, reconstructed))
    return torch.tensor([_fit(values[:, i], reconstructed[:, i]) for i in range(values.shape[1])], dtype=torch.float64)


def _fit(values: Tensor, means: Tensor) -> float:
    def cost(log_scale: float) -> float:
        return -float(log_likelihood(values, means, torch.tensor(math.exp(log_scale))).mean())

    # concave in 1 / scale, for the mass of an interval is log-concave in its ends: there is one optimum
    return math.exp(minimize_scalar(cost, bounds=(math.log(NARROWEST), math.log(WIDEST)), method="bounded").x)


def decoder_nats(originals: Tensor, reconstructed: Tensor, scales: Tensor) -> Tensor:
    """-log p(x | z) in nats of every image, (b,) float64: the sum over its values.

    originals, reconstructed: (b, channels, height, width) in [-1, 1]. scales: (channels,) of `fit_scales`.
    """
    values = to_uint8(_checked(originals, reconstructed))
    nats = -log_likelihood(values, reconstructed, rearrange(scales, "c -> c 1 1"))
    return reduce(nats, "b c h w -> b", "sum")


def _checked(originals: Tensor, reconstructed: Tensor) -> Tensor:
    if originals.ndim != 4 or originals.shape != reconstructed.shape:
        raise ShapeError(
            f"expected images (b, channels, height, width) and their reconstructions, got {tuple(originals.shape)} and "
            f"{tuple(reconstructed.shape)}; of sound there is no bound of this kind"
        )
    return originals
