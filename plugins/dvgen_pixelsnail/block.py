"""One block of PixelSNAIL: gated residual layers, then attention merged in, or the coordinates alone."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from attrs import frozen
from einops import rearrange, repeat
from torch import Tensor, nn

from dvgen_pixelsnail.attention import CausalAttention, background
from dvgen_pixelsnail.gated import GatedCache, GatedResidual


@frozen
class BlockCache:
    """The caches of one block's layers, and what its attention, if it has one, remembers."""

    layers: list[GatedCache]
    attention: Any


class Coordinates(nn.Module):
    """What stands in for attention where there is none: the background coordinates (b, t, 2), so that a place knows itself.

    The bottom prior of VQ-VAE-2 (Razavi et al., 2019, section 3.2) has no attention, for its grid is too large.
    """

    background: Tensor
    width = 2

    def __init__(self, plane: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("background", background(*plane), persistent=False)

    def forward(self, stack: Tensor, codes: Tensor) -> Tensor:
        """(b, t, 2), whatever the stack (b, t, d) and the embedded codes (b, t, d)."""
        return repeat(self.background, "t two -> b t two", b=stack.shape[0])

    def cache(self, batch: int) -> None:
        """Nothing to remember."""

    def step(self, stack: Tensor, previous: Tensor, cache: None, position: int) -> Tensor:
        """(b, 2) at one position."""
        return repeat(self.background[position], "two -> b two", b=stack.shape[0])


class Block(nn.Module):
    """Gated residual layers over the stack (b, h, w, d), attention to all codes before, and a gated 1x1 merge of the two."""

    def __init__(self, layers: Sequence[GatedResidual], attention: CausalAttention | Coordinates, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.attention = attention
        self.merge = nn.Linear(channels + attention.width, 2 * channels)

    def forward(self, x: Tensor, codes: Tensor, gate_biases: Sequence[Tensor]) -> Tensor:
        """(b, h, w, d) from the stack x, the embedded codes (b, h, w, d) and one gate bias a layer."""
        for layer, gate_bias in zip(self.layers, gate_biases, strict=True):
            x = layer(x, gate_bias)
        attended = self.attention(*(rearrange(part, "b h w d -> b (h w) d") for part in (x, codes)))
        return self._merged(x, rearrange(attended, "b (h w) d -> b h w d", h=x.shape[1]))

    def cache(self, batch: int, height: int, width: int) -> BlockCache:
        """An empty cache for grids of this size."""
        layers = [layer.cache(batch, height, width) for layer in self.layers]  # type: ignore[operator]
        return BlockCache(layers, self.attention.cache(batch))

    def step(
        self, x: Tensor, previous: Tensor, gate_biases: Sequence[Tensor], cache: BlockCache, place: tuple[int, int, int]
    ) -> Tensor:
        """The output (b, d) at one (position, row, column), from x (b, d) there and the embedded code before it."""
        position, *cell = place
        for layer, gate_bias, layer_cache in zip(self.layers, gate_biases, cache.layers, strict=True):
            x = layer.step(x, gate_bias, layer_cache, tuple(cell))  # type: ignore[operator]
        return self._merged(x, self.attention.step(x, previous, cache.attention, position))

    def _merged(self, x: Tensor, attended: Tensor) -> Tensor:
        return x + F.glu(self.merge(F.elu(torch.cat([x, attended], dim=-1))), dim=-1)
