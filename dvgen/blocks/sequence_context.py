"""Where the codes of coarser levels enter a prior over a sequence: place by place where they fit, before it otherwise."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from dvgen.blocks.conditioning import CoarserMaps, covers
from dvgen.interfaces.codes import Codes, Level


class CoarserRoles(NamedTuple):
    """Indices of the coarser levels that are added place by place, and of those that stand before the sequence."""

    aligned: tuple[int, ...]
    prefixed: tuple[int, ...]


def coarser_roles(coarser: Sequence[Level], grid: tuple[int, ...]) -> CoarserRoles:
    """Aligned are the levels that nearest upsampling carries to `grid` whole: they cost no sequence length."""
    aligned = tuple(index for index, level in enumerate(coarser) if covers(level, grid))
    return CoarserRoles(aligned, tuple(index for index in range(len(coarser)) if index not in aligned))


def prefix_tables(levels: Sequence[Level], dim: int) -> tuple[nn.ModuleList, nn.ModuleList]:
    """Embeddings of the codes of each level, with a row more for MASKED, and of its positions."""
    codes = nn.ModuleList(nn.Embedding(level.num_codes + 1, dim) for level in levels)
    return codes, nn.ModuleList(nn.Embedding(level.length, dim) for level in levels)


def embed_prefix(tables: tuple[nn.ModuleList, nn.ModuleList], coarser: Codes, empty: Tensor) -> Tensor:
    """The codes of the prefixed levels one after the other, (b, positions of all, dim), after `empty`, (b, 0, dim)."""
    rows = zip(*tables, coarser, strict=True)
    return torch.cat([empty, *(codes(code.flatten(1) + 1) + positions.weight for codes, positions, code in rows)], dim=1)


def embed_places(positions: nn.Embedding, maps: CoarserMaps | None, coarser: Codes) -> Tensor:
    """What is added at each place, (b or 1, length, dim): its position, and the features of the aligned levels there."""
    places = rearrange(positions.weight, "t d -> 1 t d")
    return places if maps is None else places + rearrange(maps(coarser), "b h w d -> b (h w) d")
