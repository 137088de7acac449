"""Quantizers whose levels are those of several inner quantizers, one after another.

Shapes: b batch, d width, *grid positions, n features.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import chain
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from dvgen.errors import ShapeError
from dvgen.interfaces.codes import Codes, Level
from dvgen.interfaces.quantizer import Quantized, Quantizer


class Staged(Quantizer):
    """Stages, which are quantizers, and their codes as one flat list of levels.

    Stage i names its level "<name><i>", and the levels of a stage with several "<name><i>-<their name>". What stage i calls
    a loss, a stat or pending is called "<i>.<that>"; counts and perplexities keep their names, with the number of the level
    in the flat list.
    """

    def __init__(self, stages: Sequence[Quantizer], *, dim: int, name: str) -> None:
        super().__init__()
        self.dim, self.name = dim, name
        self.stages = nn.ModuleList(stages)
        self.deterministic = all(stage.deterministic for stage in stages)
        self.depths = [len(stage.levels((1,))) for stage in stages]

    def each(self) -> list[Quantizer]:
        """The stages."""
        return [stage for stage in self.stages if isinstance(stage, Quantizer)]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The groups of every stage."""
        return [group for stage in self.each() for group in stage.parameter_groups()]

    def levels(self, grid: tuple[int, ...]) -> tuple[Level, ...]:
        """The levels of every stage, stage by stage."""
        return tuple(
            attrs.evolve(level, name=f"{self.name}{i}" if depth == 1 else f"{self.name}{i}-{level.name}")
            for i, (stage, depth) in enumerate(zip(self.each(), self.depths, strict=True))
            for level in stage.levels(grid)
        )

    def update(self, pending: dict[str, Tensor]) -> None:
        """Hand each stage what it returned."""
        for i, stage in enumerate(self.each()):
            prefix = f"{i}."
            stage.update({name.removeprefix(prefix): v for name, v in pending.items() if name.startswith(prefix)})

    def schedule(self, step: int) -> None:
        """Tell every stage."""
        for stage in self.each():
            stage.schedule(step)

    def split(self, codes: Codes) -> list[tuple[Quantizer, Codes]]:
        """The stages that a prefix of the levels reaches, each with its codes, of the last perhaps not all.

        Raises ShapeError unless there is at least one level, and no more than the stages have.
        """
        if not 1 <= len(codes) <= sum(self.depths):
            raise ShapeError(f"expected codes of 1 to {sum(self.depths)} levels, got {len(codes)}")
        shares: list[tuple[Quantizer, Codes]] = []
        first = 0
        for stage, depth in zip(self.each(), self.depths, strict=True):
            if first < len(codes):
                shares.append((stage, codes[first : first + depth]))
            first += depth
        return shares

    def gathered(self, vectors: Tensor, stats: dict[str, Tensor], results: Sequence[Quantized]) -> Quantized:
        """One result of those of all stages: these vectors, and these stats beside those of the stages."""
        first = 0
        merged = dict(stats)
        for i, (result, depth) in enumerate(zip(results, self.depths, strict=True)):
            merged |= renamed(result.stats, str(i), first)
            first += depth
        codes = tuple(chain.from_iterable(result.codes for result in results))
        losses = _prefixed([result.losses for result in results])
        return Quantized(vectors, codes, losses, merged, _prefixed([result.pending for result in results]))


def renamed(stats: Mapping[str, Tensor], prefix: str, first: int) -> dict[str, Tensor]:
    """The stats of an inner quantizer whose levels start at `first`; `finite` is left out, being one with that of all."""
    kept = {}
    for name, value in stats.items():
        kind, _, number = name.partition("_")
        if kind in ("counts", "perplexity") and number.isdigit():
            kept[f"{kind}_{first + int(number)}"] = value
        elif name != "finite":
            kept[f"{prefix}.{name}"] = value
    return kept


def all_finite(results: Sequence[Quantized]) -> Tensor:
    """1, or 0 when the stat `finite` of one result is."""
    return torch.stack([result.stats["finite"] for result in results]).prod()


def state_dtype(module: nn.Module) -> torch.dtype:
    """The widest floating dtype of parameters and buffers: that of decoded vectors; float32 when there are none."""
    found = [tensor.dtype for tensor in chain(module.parameters(), module.buffers()) if tensor.is_floating_point()]
    return reduce(torch.promote_types, found, torch.float32)


def _prefixed(groups: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{i}.{name}": value for i, group in enumerate(groups) for name, value in group.items()}
