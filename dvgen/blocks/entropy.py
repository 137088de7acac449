"""Entropies, in nats, of softmax distributions over codes, and the sum of those distributions.

Only the logits are kept for the gradient; see `dvgen.blocks.softmax_choice`. Shapes: n rows, k codes.
"""

import math
from typing import Any

import torch
from torch import Tensor

from dvgen.blocks.softmax_choice import row_slices, softmax_gradient


def entropies(logits: Tensor) -> Tensor:
    """H(softmax(logits)) of each row (n, k), in nats: (n,)."""
    return -_NegativeEntropy.apply(logits, 0.0)  # type: ignore[no-untyped-call]


def divergences_from_uniform(logits: Tensor) -> Tensor:
    """KL(softmax(logits) || uniform) of each row (n, k), in nats: (n,). It is log k - H without the cancellation."""
    return _NegativeEntropy.apply(logits, math.log(logits.shape[1]))  # type: ignore[no-untyped-call]


def total_probabilities(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """The sum of softmax(logits) (n, k) over the rows that `mask` (n,) keeps: (k,)."""
    return _TotalProbabilities.apply(logits, mask)  # type: ignore[no-untyped-call]


def entropy(probabilities: Tensor) -> Tensor:
    """H of probabilities (k,), in nats: a scalar. Zero for zeros; its gradient is finite where a probability is zero."""
    return -(probabilities * probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()).sum()


class _NegativeEntropy(torch.autograd.Function):
    """sum_j p_j (log p_j + constant): a constant changes the value but not the gradient."""

    @staticmethod
    def forward(logits: Tensor, constant: float) -> Tensor:
        return torch.cat([_negative_entropy(logits[part], constant)[1] for part in row_slices(*logits.shape)])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (logits,) = ctx.saved_tensors
        to_logits = torch.empty_like(logits)
        for part in row_slices(*logits.shape):
            log_probs, value = _negative_entropy(logits[part], 0.0)
            to_logits[part] = gradients[0][part].unsqueeze(1) * log_probs.exp() * (log_probs - value.unsqueeze(1))
        return to_logits, None


def _negative_entropy(logits: Tensor, constant: float) -> tuple[Tensor, Tensor]:
    """log p (n, k) and sum_j p_j (log p_j + constant) (n,)."""
    log_probs = logits.log_softmax(dim=1)
    return log_probs, (log_probs.exp() * (log_probs + constant)).sum(dim=1)


class _TotalProbabilities(torch.autograd.Function):
    @staticmethod
    def forward(logits: Tensor, mask: Tensor | None) -> Tensor:
        total = logits.new_zeros(logits.shape[1])
        for part in row_slices(*logits.shape):
            total = total + _kept(logits[part].softmax(dim=1), mask, part).sum(dim=0)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        logits, mask = ctx.saved_tensors
        to_logits = torch.empty_like(logits)
        for part in row_slices(*logits.shape):
            to_logits[part] = _kept(softmax_gradient(logits[part].softmax(dim=1), gradients[0]), mask, part)
        return to_logits, None


def _kept(values: Tensor, mask: Tensor | None, part: slice) -> Tensor:
    """values (n, k) of the rows `part`, zero where masked."""
    return values if mask is None else torch.where(mask[part].unsqueeze(1), values, 0)
