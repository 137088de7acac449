"""The straight-through estimator."""

from typing import Any

import torch
from torch import Tensor


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(z: Tensor, vectors: Tensor) -> Tensor:
        return vectors.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.dtype = inputs[0].dtype

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].to(ctx.dtype), None


def straight_through(z: Tensor, vectors: Tensor) -> Tensor:
    """`vectors`, bit for bit, with the gradient of the identity to `z` of the same shape and none to `vectors`.

    The usual z + (vectors - z).detach() rounds, so that decoding the codes would not give the same vectors.
    VQ-VAE (van den Oord et al., 2017), section 3.2; Bengio et al., 2013.
    """
    return _StraightThrough.apply(z, vectors)  # type: ignore[no-untyped-call]
