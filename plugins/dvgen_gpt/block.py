"""A causal transformer block, over whole sequences and from where it stopped.

Shapes: b batch, n new positions, h heads, d width of a head, r room for positions in a cache.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dvgen.blocks import transformer

STEP, SHARE = 32, 8
"""By how many positions the room of a cache grows, or by which part of it, if that is more: with less it is laid out anew more
often, with more it has more to read."""

PIECES = 16
"""In how many parts a cache is laid out anew."""


class Cache:
    """Keys and values of one block, allocated once for the longest sequence and filled in place.

    What is in use lies without gaps, as (2, b, h, r, d), and is laid out anew when r grows: the products of one query with
    slices of a longer cache took twice the time. Positions that are not written yet hold zeros.
    """

    def __init__(self, like: Tensor, batch: int, heads: int, length: int, width: int) -> None:
        """like: for device and dtype."""
        self.length = length
        self.storage = like.new_empty(2 * batch * heads * length * width)
        self.pairs = self.storage[:0].view(2, batch, heads, 0, width)

    def write(self, pairs: Tensor, position: int) -> Tensor:
        """Keep the keys and values (2, b, h, n, d) of the positions from `position` on; all so far, (2, b, h, r, d)."""
        end = position + pairs.shape[-2]
        if end > self.pairs.shape[-2]:
            self._grow(end, position)
        self.pairs[..., position:end, :] = pairs
        return self.pairs

    def _grow(self, end: int, position: int) -> None:
        *outer, _, width = self.pairs.shape
        rows, room = math.prod(outer), room_for(end, self.length)
        few = max(1, rows // PIECES)
        old, self.pairs = self.pairs, self.storage[: rows * room * width].view(*outer, room, width)
        before, after = old.flatten(0, -3), self.pairs.flatten(0, -3)
        # from the last rows on, each lands behind those that are still to be moved; a few at a time, for a copy of all is large
        for start in reversed(range(0, rows, few)):
            part = slice(start, start + few)
            seen = before[part, :position].clone()
            after[part, :position] = seen
            after[part, position:] = 0  # their weight is zero, which NaN would survive


def room_for(end: int, length: int) -> int:
    """The room of a cache that holds `end` of at most `length` positions: the next of 32, 64, ..., 512, 576, 640, ..."""
    room = STEP
    while room < end:
        room += max(STEP, room // SHARE // STEP * STEP)
    return min(room, length)


def mask_from(position: int, count: int, length: int, like: Tensor) -> Tensor:
    """What is added to the scores of `count` positions from `position` on, (n, r): -inf for what comes after each."""
    room = room_for(position + count, length)
    return like.new_full((count, room), -torch.inf).triu(position + 1)


class Attention(transformer.Attention):
    """Causal self-attention that can go on where it stopped."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, heads, causal=True)

    def extend(self, x: Tensor, cache: Cache, position: int, mask: Tensor) -> Tensor:
        """The same for new positions x (b, n, dim) from `position` on; mask: of `mask_from`."""
        projected = self.split(x)
        keys, values = cache.write(projected[1:], position)
        if x.shape[1] != 1:
            return self.merge(F.scaled_dot_product_attention(projected[0], keys, values, attn_mask=mask))
        # of one query the fused kernel takes up to twice the time, and in bfloat16 five times
        query, keys, values = (part.flatten(0, 1) for part in (projected[0], keys, values))
        scores = torch.baddbmm(mask, query, keys.mT, alpha=self.width**-0.5)
        return self.merge(torch.bmm(scores.softmax(dim=-1), values).unflatten(0, (-1, self.heads)))


class Block(transformer.Block):
    """A block of GPT-2 with a cache for its attention."""

    attention: Attention

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__(Attention(dim, heads), dropout)

    def extend(self, x: Tensor, cache: Cache, position: int, mask: Tensor) -> Tensor:
        """The same for new positions x (b, n, dim) from `position` on, without dropout; mask: of `mask_from`."""
        x = x + self.attention.extend(self.attention_norm(x), cache, position, mask)
        return x + self.mlp(x)

    def cache(self, batch: int, length: int) -> Cache:
        """An empty cache for sequences of this length."""
        return Cache(self.attention.qkv.weight, batch, self.attention.heads, length, self.attention.width)

    def residual_projections(self) -> tuple[Tensor, Tensor]:
        """The weights whose outputs are added to the residual stream."""
        return self.attention.project.weight, self.contract.weight
