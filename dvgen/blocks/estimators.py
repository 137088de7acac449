"""Estimators: the gradient that vectors have with respect to the features they stand for. The value is never touched.

Shapes: n rows, d width.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dvgen.blocks.unit import unit

MAX_GAIN = 10.0
"""The largest factor by which the rotation trick lengthens a gradient: |vector| / |feature| grows without bound as a feature
comes near the origin, and one such feature would decide the step."""

Estimator = Callable[[Tensor, Tensor], Tensor]


def straight_through(z: Tensor, vectors: Tensor) -> Tensor:
    """`vectors`, bit for bit, with the gradient of the identity to `z` of the same shape and none to `vectors`.

    In the wider dtype of the two, so that a gradient in float64 is not rounded on its way.

    The usual z + (vectors - z).detach() rounds, so that decoding the codes would not give the same vectors.
    VQ-VAE (van den Oord et al., 2017), section 3.2; Bengio et al., 2013.
    """
    return _StraightThrough.apply(z, vectors)  # type: ignore[no-untyped-call]


def rotation(z: Tensor, vectors: Tensor) -> Tensor:
    """`vectors` (n, d), bit for bit, with the gradient of the rotation and scaling that take `z` (n, d) to them, row by row.

    The rotation in the plane of z and its vector, and the factor |vector| / |z|, count as constants (Fifty et al., 2024, "the
    rotation trick", section 4). The factor is at most MAX_GAIN. Where there is no such rotation (z or its vector is zero, or
    they point in opposite directions) the gradient passes straight through.
    """
    return _Rotation.apply(z, vectors)  # type: ignore[no-untyped-call]


ESTIMATORS: dict[str, Estimator] = {"straight-through": straight_through, "rotation": rotation}
"""The estimators a quantizer may offer its user, by the names of `dvgen.interfaces.quantizer.ESTIMATORS`."""


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(z: Tensor, vectors: Tensor) -> Tensor:
        return _widened(vectors, z)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.dtype = inputs[0].dtype

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].to(ctx.dtype), None


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(z: Tensor, vectors: Tensor) -> Tensor:
        return _widened(vectors, z)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        z, vectors = ctx.saved_tensors
        return _turned_back(gradients[0], z, vectors).to(z.dtype), None


def _widened(vectors: Tensor, z: Tensor) -> Tensor:
    """A copy of the vectors, in the dtype of z where that is wider."""
    return vectors.to(torch.promote_types(z.dtype, vectors.dtype), copy=True)


def _turned_back(gradient: Tensor, z: Tensor, vectors: Tensor) -> Tensor:
    """lambda R^T gradient with R = I - 2 r r^T + 2 q z^T, for unit z and q, and r = (z + q) / |z + q|."""
    source, length = unit(z)
    target, other = unit(vectors)
    middle, sum_length = unit(source + target)
    turned = (
        gradient
        - 2 * middle * (middle * gradient).sum(dim=1, keepdim=True)
        + 2 * source * (target * gradient).sum(dim=1, keepdim=True)
    )
    gain = (other / torch.where(length > 0, length, 1)).clamp(max=MAX_GAIN)
    # below this the direction of z + q is made of rounding
    opposite = sum_length < 1e-3
    defined = (length > 0) & (other > 0) & ~opposite
    return torch.where(defined, gain * turned, gradient)
