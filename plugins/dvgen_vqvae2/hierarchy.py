"""What encoder and decoder of several maps share: their configs, and the decoding of maps of different grids."""

from collections.abc import Iterator
from typing import Any

import torch
from attrs import field, frozen
from attrs.validators import ge
from torch import Tensor, nn

from dvgen.blocks.strided import Convolutions, expanding, halvings, power_of_two
from dvgen.errors import ShapeError


@frozen(kw_only=True)
class MapsConvolutions(Convolutions):
    """channels: hidden width. residual_channels, residual_blocks: the stacks. downsample: 1, 2, 4, ..., the finest grid's.

    step: of each grid to the next coarser one, 2, 4, ...
    """

    channels: int = field(default=128, validator=ge(1))
    step: int = field(default=2, validator=[ge(2), power_of_two])


@frozen(kw_only=True)
class Hierarchy(MapsConvolutions):
    """The fields of the decoder, and maps: how many there are, each with a quantizer of its own."""

    maps: int = field(default=2, validator=ge(1))


SMALL: dict[str, Any] = {"channels": 8, "residual_channels": 4, "residual_blocks": 1, "downsample": 2}


class MapsDecoder(nn.Module):
    """Vectors (b, dims[i], *grid of map i), coarse first, to (b, channels, *finest grid * factor).

    Transposed convolutions bring the coarser maps to the finest grid; all are concatenated and decoded as VQ-VAE decodes one
    map. With two maps it is the decoder of VQ-VAE-2 (Razavi et al., 2019, figure 2a), with one the step from its top map to
    its bottom map.
    """

    def __init__(self, dims: tuple[int, ...], channels: int, config: MapsConvolutions, factor: int) -> None:
        super().__init__()
        steps = range(len(dims) - 1, 0, -1)
        self.upsamplings = nn.ModuleList(
            nn.Sequential(*_upsampling(dim, halvings(config.step) * step)) for dim, step in zip(dims, steps, strict=False)
        )
        *layers, last = expanding(sum(dims), channels, config, factor)
        self.layers = nn.Sequential(*layers)
        self.last = last

    def forward(self, vectors: tuple[Tensor, ...]) -> Tensor:
        """(b, channels, *size), from one map of vectors a dim. Raises ShapeError when their grids are not `step` apart."""
        *coarser, finest = vectors
        upsampled = [upsampling(map) for upsampling, map in zip(self.upsamplings, coarser, strict=True)]
        if any(map.shape[2:] != finest.shape[2:] for map in upsampled):
            grids = ", ".join("x".join(str(side) for side in map.shape[2:]) for map in vectors)
            raise ShapeError(
                f"vqvae2: maps of grids {grids} are not each `step` times the one before; give encoder and decoder one step"
            )
        return self.last(self.layers(torch.cat([*upsampled, finest], dim=1)))


def _upsampling(dim: int, doublings: int) -> Iterator[nn.Module]:
    """Transposed convolutions with ReLUs between them: without, several would be no more than one."""
    for i in range(doublings):
        if i:
            yield nn.ReLU()
        yield nn.ConvTranspose2d(dim, dim, kernel_size=4, stride=2, padding=1)
