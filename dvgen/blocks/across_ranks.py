"""Sums over all ranks of a distributed run, inside a forward pass."""

from typing import Any

import torch
from torch import Tensor, distributed


def sum_over_ranks(values: Tensor, training: bool) -> Tensor:
    """The sum of `values` over ranks, differentiable; `values` themselves outside a distributed run and in evaluation.

    What depends on the whole batch (the entropy of mean probabilities) must be computed from such sums, or every rank
    optimises another quantity. Every rank has to call it equally often, also one whose part of the batch is empty.
    Evaluation may run on one rank alone, so there nobody is waited for. Whether the run is distributed is asked anew at
    every call: a module may be built before the process group is.
    """
    if not (training and distributed.is_available() and distributed.is_initialized()):
        return values
    return _SumOverRanks.apply(values)  # type: ignore[no-untyped-call]


class _SumOverRanks(torch.autograd.Function):
    """Every rank's values reach every rank's loss, so a gradient is the sum of the gradients of all ranks too.

    The average that data-parallel training takes of the ranks' gradients then is the gradient of the one whole loss.
    """

    @staticmethod
    def forward(values: Tensor) -> Tensor:
        return _summed(values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _summed(gradients[0])


def _summed(values: Tensor) -> Tensor:
    total = values.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total
