"""Encoders and decoders with one bug each (E1 to E5, D1 to D4)."""

from typing import Any

from component_mutants import planted
from contract_toys import (
    ToyDecoder,
    ToyEncoder,
)
from torch import Tensor, nn
from torch.nn import functional as F

from dvgen.errors import ConfigError


@planted("E1 number_of_maps", "Broken", "IndexError")
class TakesAnyDims(ToyEncoder):
    def __init__(self, config: Any, *, channels: int, dims: tuple[int, ...]) -> None:
        super().__init__(config, channels=channels, dims=(*dims, 1, 1)[:2])


@planted("E2 shapes")
class WrongWidth(ToyEncoder):  # a map that is only handed on
    def condition(self, map: int, features: tuple[Tensor, ...], coarser: tuple[Tensor, ...]) -> Tensor:
        return features[map]


@planted("E2 shapes")
class FeaturesOnAnotherGrid(ToyEncoder):
    def forward(self, signals: Tensor) -> tuple[Tensor, ...]:
        coarse, fine = super().forward(signals)
        return F.interpolate(coarse, scale_factor=2), fine

    def condition(self, map: int, features: tuple[Tensor, ...], coarser: tuple[Tensor, ...]) -> Tensor:
        return super().condition(map, (F.avg_pool2d(features[0], 2), features[1]), coarser)


@planted("E3 signals_reach_maps")
class SkipsEverySecondRow(ToyEncoder):
    def forward(self, signals: Tensor) -> tuple[Tensor, ...]:
        return super().forward(signals[:, :, ::2].repeat_interleave(2, dim=2))


@planted("E3 signals_reach_maps", "Broken", "RuntimeError")
class DetachedMap(ToyEncoder):
    def forward(self, signals: Tensor) -> tuple[Tensor, ...]:
        coarse, fine = super().forward(signals)
        return coarse.detach(), fine


@planted("E4 condition_is_pure")
class RemembersFinerVectors(ToyEncoder):
    seen: Any = 0.0

    def condition(self, map: int, features: tuple[Tensor, ...], coarser: tuple[Tensor, ...]) -> Tensor:
        if map:
            self.seen = coarser[0].mean()
            return super().condition(map, features, coarser)
        return features[0] + self.seen


@planted("E5 sizes", "Broken", "RuntimeError")
class FloorsSizes(ToyEncoder):
    def grids(self, size: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        if len(size) != 2:
            raise ConfigError("encoder: takes images")
        return tuple(side // 4 for side in size), tuple(side // 2 for side in size)


@planted("D1 shapes", "RuntimeError")  # works on contiguous vectors alone
class ViewsMaps(ToyDecoder):
    def forward(self, vectors: tuple[Tensor, ...]) -> Tensor:
        maps = [vector.view(vector.shape[0] * vector.shape[1], *vector.shape[2:]) for vector in vectors]
        return super().forward(tuple(one.view(vector.shape) for one, vector in zip(maps, vectors, strict=True)))


@planted("D1 shapes")
class CropsSignals(ToyDecoder):
    def forward(self, vectors: tuple[Tensor, ...]) -> Tensor:
        return super().forward(vectors)[..., :-1]


@planted("D1 shapes")
class TurnsWhatItSaysAreSignals(ToyDecoder):
    def signals(self, output: Tensor) -> Tensor:
        return output.tanh()


@planted("D2 vectors_reach_signals")
class IgnoresTheCoarseMap(ToyDecoder):
    def forward(self, vectors: tuple[Tensor, ...]) -> Tensor:
        return super().forward((vectors[0] * 0, vectors[1]))


@planted("D3 last_layer")
class CopyOfTheLastLayer(ToyDecoder):
    @property
    def last_layer(self) -> nn.Parameter:
        return nn.Parameter(self.last.weight.detach())


@planted("D4 last_layer_is_last")
class FirstLayerCalledLast(ToyDecoder):
    @property
    def last_layer(self) -> nn.Parameter:
        return self.first.weight
