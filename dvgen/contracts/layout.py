"""How what a component is tried on lies in memory.

Encoders and the rows of quantizers hand on tensors whose channels lie last; others are contiguous. `view` takes only some.
"""

from torch import Tensor


def channels_last(tensor: Tensor) -> Tensor:
    """The same values (b, d, *grid), in memory as (b, *grid, d); what has no grid as it is."""
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1) if tensor.ndim > 2 else tensor
