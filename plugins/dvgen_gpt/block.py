"""A causal transformer block, over whole sequences and one position at a time.

Shapes: b batch, n new positions, t positions so far, h heads, d width of a head.
"""

import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor

from dvgen.blocks import transformer


@frozen
class Cache:
    """Keys and values (b, h, t, d) of one block, allocated once for the longest sequence and filled in place."""

    keys: Tensor
    values: Tensor


class Attention(transformer.Attention):
    """Causal self-attention that can go on where it stopped."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, heads, causal=True)

    def extend(self, x: Tensor, cache: Cache, position: int) -> Tensor:
        """The same for new positions x (b, n, dim) from `position` on; n is 1, or position is 0."""
        query, keys, values = self.split(x)
        end = position + x.shape[1]
        cache.keys[:, :, position:end] = keys
        cache.values[:, :, position:end] = values
        seen = cache.keys[:, :, :end], cache.values[:, :, :end]
        return self.merge(F.scaled_dot_product_attention(query, *seen, is_causal=position == 0))


class Block(transformer.Block):
    """A block of GPT-2 with a cache for its attention."""

    attention: Attention

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__(Attention(dim, heads), dropout)

    def extend(self, x: Tensor, cache: Cache, position: int) -> Tensor:
        """The same for new positions x (b, n, dim) from `position` on; n is 1, or position is 0."""
        x = x + self.attention.extend(self.attention_norm(x), cache, position)
        return x + self.mlp(x)

    def cache(self, batch: int, length: int) -> Cache:
        """An empty cache for sequences of this length."""
        weight = self.attention.qkv.weight
        shape = (batch, self.attention.heads, length, self.attention.width)
        return Cache(*(torch.zeros(shape, device=weight.device, dtype=weight.dtype) for _ in range(2)))

    def residual_projections(self) -> tuple[Tensor, Tensor]:
        """The weights whose outputs are added to the residual stream."""
        return self.attention.project.weight, self.contract.weight
