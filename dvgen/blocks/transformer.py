"""A pre-norm transformer block over whole sequences, and its initial weights.

Shapes: b batch, n positions, h heads, d width of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDENED = 256
"""Up to how many positions attention in bfloat16 is faster in float32 on a CPU: forward and backward, three times at 64."""


def attend(query: Tensor, keys: Tensor, values: Tensor, *, causal: bool) -> Tensor:
    """What each position sees, (b, h, n, d): softmax of q k^T / sqrt(d), times v (Vaswani et al., 2017, equation 1)."""
    if query.dtype == torch.bfloat16 and query.device.type == "cpu" and query.shape[-2] <= WIDENED:
        with torch.autocast("cpu", enabled=False):  # it would narrow them again
            wide = F.scaled_dot_product_attention(query.float(), keys.float(), values.float(), is_causal=causal)
        return wide.to(query.dtype)
    return F.scaled_dot_product_attention(query, keys, values, is_causal=causal)


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
        query, keys, values = self.split(x)
        return self.merge(attend(query, keys, values, causal=self.causal))

    # split and merge stand in the loop over positions, where the look-ups of einops would cost as much as the norms

    def split(self, x: Tensor) -> Tensor:
        """Queries, keys and values, (3, b, h, n, d), of x (b, n, dim)."""
        return self.qkv(x).unflatten(-1, (3, self.heads, self.width)).permute(2, 0, 3, 1, 4)

    def merge(self, attended: Tensor) -> Tensor:
        """The output (b, n, dim) of what the heads attended to, (b, h, n, d)."""
        return self.project(attended.transpose(1, 2).flatten(2))


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
