"""One code chosen out of a softmax over all: the value is its vector, the gradient that of the softmax.

What the gradient needs of the softmax is computed again from the logits, a few rows at a time, so that beside the logits no
tensor of their size is kept, and no one-hot codes are ever written.

Shapes: n rows, k codes, d width.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dvgen.blocks.nearest import CHUNK_ELEMENTS


def softmax_choice(logits: Tensor, codes: Tensor, codebook: Tensor) -> Tensor:
    """The rows `codes` (n,) of `codebook` (k, d), bit for bit; backward, their one-hot codes count as softmax(logits) (n, k).

    For an upstream gradient g (n, d) and p = softmax(logits): the logits get p * (g E^T - sum_j p_j (g E^T)_j), row by row,
    and each row of the codebook gets the sum of g over the rows that chose it. Codebook and logits have one dtype.
    Straight-through Gumbel-softmax (Jang et al., 2017, section 2.2); index backpropagation (Shi et al., 2024, section 3.2).
    """
    return _SoftmaxChoice.apply(logits, codes, codebook)  # type: ignore[no-untyped-call]


def row_slices(n: int, num_codes: int) -> list[slice]:
    """Slices of n rows (n, num_codes), each small enough to stay in cache; at least one."""
    # the compiler fuses what the slices are for, and would unroll them
    if torch.compiler.is_compiling():
        return [slice(None)]
    rows = max(1, CHUNK_ELEMENTS // num_codes)
    return [slice(start, start + rows) for start in range(0, max(n, 1), rows)]


def softmax_gradient(probabilities: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of logits from that of their softmax, both (n, k)."""
    return probabilities * (gradient - (probabilities * gradient).sum(dim=1, keepdim=True))


class _SoftmaxChoice(torch.autograd.Function):
    @staticmethod
    def forward(logits: Tensor, codes: Tensor, codebook: Tensor) -> Tensor:
        return F.embedding(codes, codebook)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor]:
        logits, codes, codebook = ctx.saved_tensors
        gradient = gradients[0]
        # the gradient of a softmax ignores what all its terms share: taken from the middle of the codebook, and then from the
        # code chosen, products lose no digits to an offset, and a nearly certain softmax keeps the digits that it has
        spread = codebook - codebook.mean(dim=0)
        to_logits = torch.empty_like(logits)
        with torch.autocast(logits.device.type, enabled=False):
            for part in row_slices(*logits.shape):
                reach = gradient[part] @ spread.T
                reach = reach - reach.gather(1, codes[part].unsqueeze(1))
                to_logits[part] = softmax_gradient(logits[part].softmax(dim=1), reach)
        return to_logits, None, torch.zeros_like(codebook).index_add_(0, codes, gradient)
