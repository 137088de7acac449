"""Strictly causal attention over a grid, whole or one position at a time.

Shapes: b batch, t positions in raster order, h heads, e width of a head, d channels.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn


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

    def _query(self, stack: Tensor, places: Tensor) -> Tensor:
        return rearrange(self.query(stack) + self.query_place(places), "b t (h e) -> b h t e", h=self.heads)

    def _memory(self, stack: Tensor, codes: Tensor, places: Tensor) -> Tensor:
        """Keys and values, (2, b, h, t, e)."""
        memory = self.memory(torch.cat([stack, codes], dim=-1)) + self.memory_place(places)
        return rearrange(memory, "b t (two h e) -> two b h t e", two=2, h=self.heads)


class AttentionSteps:
    """The attention one position at a time, with the keys (b * h, e, t) and values (b * h, t, e) of the positions before.

    A key also holds the code of its position, known one step later: what the stack adds to it waits until then. The scale of
    the scores is folded into the weights of the query, and what depends on the place alone is one table (t, 3d). A single
    query costs two thin matrix products a head, faster than the fused kernel; they read keys fastest that lie along t.
    """

    def __init__(self, attention: CausalAttention, batch: int) -> None:
        query, memory, places = attention.query, attention.memory, attention.background
        channels, heads, length = query.in_features, attention.heads, len(places)
        width = channels // heads
        scale = 1 / math.sqrt(width)
        from_stack, from_codes = memory.weight.split(channels, dim=1)
        self.from_stack = torch.cat([scale * query.weight, from_stack]).T.contiguous()
        self.from_codes = from_codes.T.contiguous()
        query_bias = scale * (query.bias + attention.query_place(places))
        self.biases = torch.cat([query_bias, memory.bias + attention.memory_place(places)], dim=1).unbind()
        self.keys = query.weight.new_zeros(batch * heads, width, length)
        self.values = query.weight.new_zeros(batch * heads, length, width)
        self.key_slots = self.keys.unflatten(0, (batch, heads)).unbind(3)
        self.value_slots = self.values.unflatten(0, (batch, heads)).unbind(2)
        self.query_size, self.memory_size = (batch * heads, 1, width), (batch, 2, heads, width)
        self.waiting = query.weight.new_zeros(batch, 2 * channels)

    def step(self, stack: Tensor, previous: Tensor, position: int) -> Tensor:
        """The output (b, d) at one position, from the stack (b, d) there and the embedded code (b, d) before it."""
        if position:
            memory = torch.addmm(self.waiting, previous, self.from_codes).view(self.memory_size)
            self.key_slots[position - 1].copy_(memory[:, 0])
            self.value_slots[position - 1].copy_(memory[:, 1])
        projected = torch.addmm(self.biases[position], stack, self.from_stack)
        channels = stack.shape[1]
        query, self.waiting = projected[:, :channels].reshape(self.query_size), projected[:, channels:]
        # the first position attends to nothing, and an empty sum is zero
        weights = torch.bmm(query, self.keys[:, :, :position]).softmax(dim=-1)
        return torch.bmm(weights, self.values[:, :position]).view(stack.shape)


def background(height: int, width: int) -> Tensor:
    """Background coordinates (t, 2) of a grid, in [-1/2, 1/2)."""
    rows = repeat((torch.arange(height) - height / 2) / height, "h -> (h w)", w=width)
    columns = repeat((torch.arange(width) - width / 2) / width, "w -> (h w)", h=height)
    return torch.stack([rows, columns], dim=-1)
