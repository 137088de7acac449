"""Strictly causal attention over a grid, whole or one position at a time.

Shapes: b batch, t positions in raster order, h heads, e width of a head, d channels.
"""

import torch
import torch.nn.functional as F
from attrs import define
from einops import rearrange, repeat
from torch import Tensor, nn


@define
class AttentionCache:
    """Keys and values (b, h, t, e), filled in place, and the stack (b, d) at the last position, whose key is still to come.

    A key also holds the code of its position, which is not known before the next step.
    """

    keys: Tensor
    values: Tensor
    stack: Tensor


class CausalAttention(nn.Module):
    """Each position attends to all positions before it; the first attends to nothing and gets zero.

    Queries come from the stack and the background, keys and values from the stack, the embedded codes and the
    background, whose two channels are ((row - H/2) / H, (column - W/2) / W) (Chen et al., 2018, section 2.2 and the
    authors' code). A linear map of their concatenation is the sum of linear maps, and that of the background is one table.
    """

    background: Tensor

    def __init__(self, channels: int, heads: int, plane: tuple[int, int]) -> None:
        super().__init__()
        self.heads, self.width = heads, channels
        self.query, self.query_place = nn.Linear(channels, channels), nn.Linear(2, channels, bias=False)
        self.memory, self.memory_place = nn.Linear(2 * channels, 2 * channels), nn.Linear(2, 2 * channels, bias=False)
        self.register_buffer("background", background(*plane), persistent=False)

    def forward(self, stack: Tensor, codes: Tensor) -> Tensor:
        """(b, t, d) from the stack (b, t, d) and the embedded codes (b, t, d)."""
        query = self._query(stack[:, 1:], self.background[1:])
        keys, values = self._memory(stack[:, :-1], codes[:, :-1], self.background[:-1])
        attended = F.scaled_dot_product_attention(query, keys, values, is_causal=True)
        return F.pad(rearrange(attended, "b h t e -> b t (h e)"), (0, 0, 1, 0))

    def cache(self, batch: int) -> AttentionCache:
        """An empty cache."""
        positions, channels = self.background.shape[0], self.query.in_features
        memory = self.query.weight.new_zeros(2, batch, self.heads, positions, channels // self.heads)
        return AttentionCache(memory[0], memory[1], self.query.weight.new_zeros(batch, channels))

    def step(self, stack: Tensor, previous: Tensor, cache: AttentionCache, position: int) -> Tensor:
        """The output (b, d) at one position, from the stack (b, d) there and the embedded code (b, d) before it."""
        before, cache.stack = cache.stack, stack
        if position == 0:
            return torch.zeros_like(stack)
        before, previous = (rearrange(x, "b d -> b 1 d") for x in (before, previous))
        keys, values = self._memory(before, previous, self.background[position - 1 : position])
        cache.keys[:, :, position - 1 : position] = keys
        cache.values[:, :, position - 1 : position] = values
        query = self._query(rearrange(stack, "b d -> b 1 d"), self.background[position : position + 1])
        seen = cache.keys[:, :, :position], cache.values[:, :, :position]
        return rearrange(F.scaled_dot_product_attention(query, *seen), "b h 1 e -> b (h e)")

    def _query(self, stack: Tensor, places: Tensor) -> Tensor:
        return rearrange(self.query(stack) + self.query_place(places), "b t (h e) -> b h t e", h=self.heads)

    def _memory(self, stack: Tensor, codes: Tensor, places: Tensor) -> Tensor:
        """Keys and values, (2, b, h, t, e)."""
        memory = self.memory(torch.cat([stack, codes], dim=-1)) + self.memory_place(places)
        return rearrange(memory, "b t (two h e) -> two b h t e", two=2, h=self.heads)


def background(height: int, width: int) -> Tensor:
    """Background coordinates (t, 2) of a grid, in [-1/2, 1/2)."""
    rows = repeat((torch.arange(height) - height / 2) / height, "h -> (h w)", w=width)
    columns = repeat((torch.arange(width) - width / 2) / width, "w -> (h w)", h=height)
    return torch.stack([rows, columns], dim=-1)
