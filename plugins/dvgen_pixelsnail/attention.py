"""Strictly causal attention over a grid, whole or one position at a time.

Shapes: b batch, t positions in raster order, h heads, e width of a head, d channels.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from dvgen.blocks.transformer import attend

APART = 16
"""Numbers left free at the end of a row of keys: rows a power of two apart would all fall on the same few lines of a cache."""


class CausalAttention(nn.Module):
    """Each position attends to all positions before it; the first attends to nothing and gets zero.

    Queries come from the stack and the background, keys and values from the stack, the embedded codes and the
    background, whose two channels are ((row - H/2) / H, (column - W/2) / W) (Chen et al., 2018, its attention block, and
    the authors' code). A linear map of their concatenation is the sum of linear maps, and that of the background is one table.
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
        attended = attend(query, keys, values, causal=True)
        return F.pad(rearrange(attended, "b h t e -> b t (h e)"), (0, 0, 1, 0))

    def _query(self, stack: Tensor, places: Tensor) -> Tensor:
        return rearrange(self.query(stack) + self.query_place(places), "b t (h e) -> b h t e", h=self.heads)

    def _memory(self, stack: Tensor, codes: Tensor, places: Tensor) -> Tensor:
        """Keys and values, (2, b, h, t, e)."""
        memory = self.memory(torch.cat([stack, codes], dim=-1)) + self.memory_place(places)
        return rearrange(memory, "b t (two h e) -> two b h t e", two=2, h=self.heads)


class AttentionMemory:
    """The keys (n, b * h, e, t) and values (n, b * h, t, e) of n attentions of one shape, for one position at a time.

    A key and a value also hold the code of their position, known one step later: what the stack adds to them waits until
    then, and the code is added for all attentions at once.
    """

    def __init__(self, attentions: Sequence[CausalAttention], batch: int) -> None:
        query, heads = attentions[0].query, attentions[0].heads
        count, channels, length = len(attentions), query.in_features, len(attentions[0].background)
        width = channels // heads
        self.from_codes = torch.cat([one.memory.weight[:, channels:] for one in attentions]).T.contiguous()
        self.waiting = query.weight.new_zeros(batch, count * 2 * channels)
        keys = query.weight.new_zeros(count, batch, heads, width, length + APART)[..., :length]
        values = query.weight.new_zeros(count, batch, heads, length + APART, width)[..., :length, :]
        self.key_slots, self.value_slots = keys.unbind(-1), values.unbind(-2)
        waiting = rearrange(self.waiting, "b (n two h e) -> two n b h e", n=count, two=2, h=heads)
        self.waiting_keys, self.waiting_values = waiting.unbind()
        rows = self.waiting.chunk(count, dim=1)
        self.steps = [
            AttentionSteps(*parts) for parts in zip(attentions, keys.flatten(1, 2), values.flatten(1, 2), rows, strict=True)
        ]

    def write(self, code: Tensor, position: int) -> None:
        """Keep the keys and values of a position that has been stepped over, now that its embedded code (b, d) is known."""
        self.waiting.addmm_(code, self.from_codes)
        self.key_slots[position].copy_(self.waiting_keys)
        self.value_slots[position].copy_(self.waiting_values)


class AttentionSteps:
    """One attention one position at a time, over keys (b * h, e, t) and values (b * h, t, e) that its memory writes.

    The scale of the scores is folded into the weights of the query, and what depends on the place alone is two tables. A single
    query costs two thin matrix products a head, faster than the fused kernel; they read keys fastest that lie along t.
    """

    def __init__(self, attention: CausalAttention, keys: Tensor, values: Tensor, waiting: Tensor) -> None:
        """waiting: (b, 2d), for what the stack adds to the key and the value of the position under way."""
        query, memory, places = attention.query, attention.memory, attention.background
        scale = 1 / math.sqrt(values.shape[-1])
        self.to_query = (scale * query.weight).T.contiguous()
        self.to_memory = memory.weight[:, : query.in_features].T.contiguous()
        self.query_biases = (scale * (query.bias + attention.query_place(places))).unbind()
        self.memory_biases = (memory.bias + attention.memory_place(places)).unbind()
        self.keys, self.values, self.waiting = keys, values, waiting
        self.query_size = (len(keys), 1, keys.shape[1])

    def step(self, stack: Tensor, position: int) -> Tensor:
        """The output (b, d) at one position, from the stack (b, d) there."""
        torch.addmm(self.memory_biases[position], stack, self.to_memory, out=self.waiting)
        query = torch.addmm(self.query_biases[position], stack, self.to_query).view(self.query_size)
        # the first position attends to nothing, and an empty sum is zero
        weights = torch.bmm(query, self.keys.narrow(2, 0, position)).softmax(dim=-1)
        return torch.bmm(weights, self.values.narrow(1, 0, position)).view(stack.shape)


def background(height: int, width: int) -> Tensor:
    """Background coordinates (t, 2) of a grid, in [-1/2, 1/2)."""
    rows = repeat((torch.arange(height) - height / 2) / height, "h -> (h w)", w=width)
    columns = repeat((torch.arange(width) - width / 2) / width, "w -> (h w)", h=height)
    return torch.stack([rows, columns], dim=-1)
