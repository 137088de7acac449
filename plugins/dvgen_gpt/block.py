"""A pre-norm transformer block, over whole sequences and one position at a time.

Shapes: b batch, n new positions, t positions so far, h heads, d width of a head.
"""

import torch
import torch.nn.functional as F
from attrs import frozen
from einops import rearrange
from torch import Tensor, nn


@frozen
class Cache:
    """Keys and values (b, h, t, d) of one block, allocated once for the longest sequence and filled in place."""

    keys: Tensor
    values: Tensor


class Attention(nn.Module):
    """Causal self-attention with one projection for queries, keys and values (Vaswani et al., 2017, section 3.2).

    Attention weights are not dropped out: that would cost the fused kernel on a CPU.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.project = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        query, keys, values = rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        return self._output(F.scaled_dot_product_attention(query, keys, values, is_causal=True))

    def extend(self, x: Tensor, cache: Cache, position: int) -> Tensor:
        """The same for new positions x (b, n, dim) from `position` on; n is 1, or position is 0."""
        query, keys, values = rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        end = position + x.shape[1]
        cache.keys[:, :, position:end] = keys
        cache.values[:, :, position:end] = values
        seen = cache.keys[:, :, :end], cache.values[:, :, :end]
        return self._output(F.scaled_dot_product_attention(query, *seen, is_causal=position == 0))

    def _output(self, attended: Tensor) -> Tensor:
        return self.project(rearrange(attended, "b h n d -> b n (h d)"))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): the order of GPT-2 (Radford et al., 2019, section 2.3)."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.width = heads, dim // heads
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.mlp_norm = nn.LayerNorm(dim)
        self.expand, self.contract = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        return x + self.dropout(self._mlp(x))

    def extend(self, x: Tensor, cache: Cache, position: int) -> Tensor:
        """The same for new positions x (b, n, dim) from `position` on; n is 1, or position is 0."""
        x = x + self.attention.extend(self.attention_norm(x), cache, position)
        return x + self._mlp(x)

    def cache(self, batch: int, length: int) -> Cache:
        """An empty cache for sequences of this length."""
        weight = self.attention.qkv.weight
        shape = (batch, self.heads, length, self.width)
        return Cache(*(torch.zeros(shape, device=weight.device, dtype=weight.dtype) for _ in range(2)))

    def residual_projections(self) -> tuple[Tensor, Tensor]:
        """The weights whose outputs are added to the residual stream."""
        return self.attention.project.weight, self.contract.weight

    def _mlp(self, x: Tensor) -> Tensor:
        return self.contract(F.gelu(self.expand(self.mlp_norm(x))))
