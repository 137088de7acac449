"""A pre-norm transformer block over whole sequences, and its initial weights.

Shapes: b batch, n positions, h heads, d width of a head.
"""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class Attention(nn.Module):
    """Self-attention with one projection for queries, keys and values (Vaswani et al., 2017, section 3.2).

    causal: a position sees itself and those before it; otherwise all. Attention weights are not dropped out: that would
    cost the fused kernel on a CPU.
    """

    def __init__(self, dim: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.width, self.causal = heads, dim // heads, causal
        self.qkv = nn.Linear(dim, 3 * dim)
        self.project = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.merge(F.scaled_dot_product_attention(*self.split(x), is_causal=self.causal))

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (b, h, n, d) each, of x (b, n, dim)."""
        query, keys, values = rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        return query, keys, values

    def merge(self, attended: Tensor) -> Tensor:
        """The output (b, n, dim) of what the heads attended to, (b, h, n, d)."""
        return self.project(rearrange(attended, "b h n d -> b n (h d)"))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): the order of GPT-2 (Radford et al., 2019, section 2.3)."""

    def __init__(self, attention: Attention, dropout: float) -> None:
        super().__init__()
        dim = attention.heads * attention.width
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = attention
        self.mlp_norm = nn.LayerNorm(dim)
        self.expand, self.contract = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        return x + self.dropout(self.mlp(x))

    def mlp(self, x: Tensor) -> Tensor:
        """What the second half adds to x, without dropout."""
        return self.contract(F.gelu(self.expand(self.mlp_norm(x))))


def initialise_normally(model: nn.Module) -> None:
    """N(0, 0.02) for the weights of Linear and Embedding layers, 0 for biases: GPT's and BERT's initial weights."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
