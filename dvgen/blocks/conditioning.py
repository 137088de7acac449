"""What priors make of their context: class labels, and the codes of coarser levels."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Generator, Tensor, nn

from dvgen.errors import ConfigError, ShapeError
from dvgen.interfaces.codes import Codes, Level
from dvgen.interfaces.context import UNCONDITIONAL, Context, ContextShape


def check_context(context: Context, shape: ContextShape, batch: int) -> None:
    """Raise ShapeError unless `context` is a context of `batch` samples and of the shape that the prior was built for."""
    if context.batch != batch:
        raise ShapeError(f"codes of {batch} samples, but a context of {context.batch}")
    grids = [tuple(codes.shape) for codes in context.coarser]
    expected = [(batch, *level.grid) for level in shape.coarser]
    if grids != expected:
        raise ShapeError(f"the prior looks at coarser codes of shapes {expected}, its context has {grids}")
    if shape.num_classes == 0 and context.labels is not None:
        raise ShapeError("the prior was built without classes, but its context has labels; leave them None")
    if shape.num_classes > 0 and (context.labels is None or tuple(context.labels.shape) != (batch,)):
        got = "none" if context.labels is None else f"labels of shape {tuple(context.labels.shape)}"
        raise ShapeError(f"the prior was built with classes: expected labels ({batch},), UNCONDITIONAL if unknown, got {got}")


def drop_labels(context: Context, probability: float, noise: Generator | None) -> Context:
    """The context with each label replaced by UNCONDITIONAL with this probability, so that guidance can be used.

    noise: a generator on the CPU; None drops nothing. One number a sample is drawn whenever there are labels.
    Classifier-free guidance: Ho & Salimans, 2022, algorithm 1.
    """
    if context.labels is None or noise is None:
        return context
    dropped = torch.rand(context.batch, generator=noise) < probability
    return context._replace(labels=context.labels.masked_fill(dropped.to(context.labels.device), UNCONDITIONAL))


class ClassEmbedding(nn.Embedding):
    """Labels (b,) to vectors (b, dim), with a row of its own for UNCONDITIONAL."""

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__(num_classes + 1, dim)

    def forward(self, labels: Tensor) -> Tensor:
        return super().forward(labels - UNCONDITIONAL)


def as_plane(grid: tuple[int, ...]) -> tuple[int, int]:
    """The grid as (height, width): a 1-D grid is one row. Raises ConfigError for more than two axes."""
    if len(grid) > 2:
        raise ConfigError(f"expected a grid of one or two axes, got {grid}")
    return (1, grid[0]) if len(grid) == 1 else (grid[0], grid[1])


def covers(coarser: Level, grid: tuple[int, ...]) -> bool:
    """Whether nearest upsampling to `grid` keeps every code: as many axes, at most two, and none longer than `grid`'s."""
    axes = len(coarser.grid) == len(grid) <= 2
    return axes and all(few <= many for few, many in zip(coarser.grid, grid, strict=True))


class CoarserMap(nn.Module):
    """Codes of one coarser level as features (b, h, w, dim) on a finer grid.

    Embedding (a row of its own for MASKED), residual 3x3 convolutions on the coarser grid, so that a position sees what
    lies around it, and nearest upsampling: the conditioning stack of VQ-VAE-2's bottom prior (Razavi et al., 2019).
    """

    def __init__(self, level: Level, grid: tuple[int, ...], dim: int, blocks: int) -> None:
        super().__init__()
        if not covers(level, grid):
            raise ConfigError(f"coarser level {level.name!r} of grid {level.grid} cannot be upsampled to grid {grid}")
        self.coarse, self.fine = as_plane(level.grid), as_plane(grid)
        self.embedding = nn.Embedding(level.num_codes + 1, dim)
        self.blocks = nn.ModuleList(_ResidualConv(dim) for _ in range(blocks))

    def forward(self, codes: Tensor) -> Tensor:
        height, width = self.coarse
        x = self.embedding(codes.reshape(-1, height, width) + 1)
        x = rearrange(x, "b h w d -> b d h w")
        for block in self.blocks:
            x = block(x)
        rows, columns = (nearest_places(few, many, x.device) for few, many in zip(self.coarse, self.fine, strict=True))
        return rearrange(x[:, :, rows][:, :, :, columns], "b d h w -> b h w d")


class CoarserMaps(nn.Module):
    """The sum of one CoarserMap a level: (b, h, w, dim); at least one level."""

    def __init__(self, levels: Sequence[Level], grid: tuple[int, ...], dim: int, blocks: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(CoarserMap(level, grid, dim, blocks) for level in levels)

    def forward(self, coarser: Codes) -> Tensor:
        return torch.stack([map(codes) for map, codes in zip(self.maps, coarser, strict=True)]).sum(dim=0)


class _ResidualConv(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(dim, dim, 3, padding=1)
        self.mix = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(F.elu(self.near(F.elu(x))))


def nearest_places(few: int, many: int, device: torch.device | None = None) -> Tensor:
    """For each of `many` places, which of `few` it lies on: in integers, where interpolate rounds a float scale."""
    return torch.arange(many, device=device) * few // many
