"""What the ranks of a training run exchange."""

import torch
from lightning_fabric import Fabric
from torch import Tensor


def total(fabric: Fabric, values: Tensor) -> Tensor:
    """The sum over ranks; may overwrite `values`."""
    if fabric.world_size == 1:
        return values
    return fabric.all_reduce(values, reduce_op="sum")  # type: ignore[return-value]


def totals(fabric: Fabric, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The sums over ranks, in one all-reduce."""
    if fabric.world_size == 1 or not values:
        return values
    names = sorted(values)
    flat = torch.cat([values[name].float().flatten() for name in names])
    pieces = total(fabric, flat).split([values[name].numel() for name in names])
    return {name: piece.view_as(values[name]) for name, piece in zip(names, pieces, strict=True)}
