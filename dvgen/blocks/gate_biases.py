"""What the context says to every gate of a convolutional prior."""

import torch
from einops import rearrange
from torch import Tensor, nn

from dvgen.blocks.conditioning import ClassEmbedding, CoarserMaps
from dvgen.interfaces.context import Context, ContextShape


class GateBiases(nn.Module):
    """One bias (b or 1, h or 1, w or 1, 2d) a gate, from the context.

    A learned one, and linear maps of the class embedding and of the features of the coarser levels (van den Oord et al., 2016,
    section 2.3, equations 4 and 5). Those of all gates are one matrix product, done once a batch of samples and not once a
    position.
    """

    def __init__(self, context: ContextShape, grid: tuple[int, ...], channels: int, *, gates: int, blocks: int) -> None:
        super().__init__()
        self.gates = gates
        self.bias = nn.Parameter(torch.zeros(gates * 2 * channels))
        self.sources = nn.ModuleDict()
        if context.num_classes:
            self.sources["labels"] = nn.Sequential(
                ClassEmbedding(context.num_classes, channels), nn.Linear(channels, gates * 2 * channels, bias=False)
            )
        if context.coarser:
            self.sources["coarser"] = nn.Sequential(
                CoarserMaps(context.coarser, grid, channels, blocks), nn.Linear(channels, gates * 2 * channels, bias=False)
            )

    def forward(self, context: Context) -> tuple[Tensor, ...]:
        total = rearrange(self.bias, "d -> 1 1 1 d")
        if "labels" in self.sources:
            total = total + rearrange(self.sources["labels"](context.labels), "b d -> b 1 1 d")
        if "coarser" in self.sources:
            total = total + self.sources["coarser"](context.coarser)
        return total.chunk(self.gates, dim=-1)
