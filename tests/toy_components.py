"""Toy components for tests: the smallest encoders, decoders, quantizers and priors of every shape the framework must carry.

Also a plugin: `-p toy_components` supplies the priors `independent` and `cheating`.
"""

from collections.abc import Sequence
from typing import Any, final

import torch
from attrs import field, frozen
from attrs.validators import ge
from einops import rearrange
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from dvgen import Component, hookimpl
from dvgen.blocks.estimators import straight_through
from dvgen.errors import ConfigError
from dvgen.interfaces.autoencoder import Decoder, Encoder
from dvgen.interfaces.codes import MASKED, Codes, Level
from dvgen.interfaces.context import Context, ContextShape
from dvgen.interfaces.data import Dataset
from dvgen.interfaces.prior import Prior
from dvgen.interfaces.quantizer import Quantized, Quantizer, Traits
from dvgen.interfaces.sampling import Sampling, draw
from dvgen_ema.quantizer import EMAQuantizer

WIDTH = 6


@hookimpl
def dvgen_components() -> list[Component]:
    """Two priors."""
    return [
        Component("prior", "independent", "toy_components:IndependentPrior", "a table of logits a position"),
        Component("prior", "cheating", "toy_components:CheatingPrior", "sees the code it predicts"),
    ]


class Nothing:
    """A component without fields."""

    @frozen(kw_only=True)
    class Config:
        """Nothing to set."""


@final
class TwoMapEncoder(Nothing, Encoder):
    """VQ-VAE-2's shape: a quarter and a half of the size; the finer map is conditioned on the quantized coarser vectors."""

    def __init__(self, config: Any, *, channels: int, dims: tuple[int, ...]) -> None:
        super().__init__()
        if len(dims) != 2:
            raise ConfigError(f"encoder: makes 2 maps and takes 2 quantizers, not {len(dims)}")
        self.fine = nn.Conv2d(channels, WIDTH, kernel_size=4, stride=2, padding=1)
        self.coarse = nn.Conv2d(WIDTH, dims[0], kernel_size=4, stride=2, padding=1)
        self.merge = nn.Conv2d(WIDTH + dims[0], dims[1], kernel_size=1)

    @classmethod
    def maps(cls, config: Any) -> int:
        return 2

    def grids(self, size: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        return tuple(side // 4 for side in size), tuple(side // 2 for side in size)

    def forward(self, signals: Tensor) -> tuple[Tensor, ...]:
        fine = F.relu(self.fine(signals))
        return self.coarse(fine), fine

    def condition(self, map: int, features: tuple[Tensor, ...], coarser: tuple[Tensor, ...]) -> Tensor:
        if map == 0:
            return features[0]
        return self.merge(torch.cat([features[1], F.interpolate(coarser[0], scale_factor=2)], dim=1))


@final
class TwoMapDecoder(Nothing, Decoder):
    """Both maps at the size of the finer one, then transposed convolution."""

    def __init__(self, config: Any, *, channels: int, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.last = nn.ConvTranspose2d(sum(dims), channels, kernel_size=4, stride=2, padding=1)

    @property
    def last_layer(self) -> nn.Parameter:
        return self.last.weight

    def forward(self, vectors: tuple[Tensor, ...]) -> Tensor:
        return self.last(torch.cat([F.interpolate(vectors[0], scale_factor=2), vectors[1]], dim=1))


@final
class SoundEncoder(Nothing, Encoder):
    """Signals (b, c, t) to one map (b, d, t / 4)."""

    def __init__(self, config: Any, *, channels: int, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.only = nn.Conv1d(channels, dims[0], kernel_size=4, stride=4)

    def grids(self, size: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        return ((size[0] // 4,),)

    def forward(self, signals: Tensor) -> tuple[Tensor, ...]:
        return (self.only(signals),)


@final
class SoundDecoder(Nothing, Decoder):
    """The way back."""

    def __init__(self, config: Any, *, channels: int, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.only = nn.ConvTranspose1d(dims[0], channels, kernel_size=4, stride=4)

    @property
    def last_layer(self) -> nn.Parameter:
        return self.only.weight

    def forward(self, vectors: tuple[Tensor, ...]) -> Tensor:
        return self.only(vectors[0])


@final
class ResidualQuantizer(Quantizer):
    """Two EMA quantizers on one grid, the second on what the first leaves over: one map, two levels."""

    @frozen(kw_only=True)
    class Config:
        """Codes of each level, and the width."""

        num_codes: int = field(default=4, validator=ge(1))
        dim: int = field(default=3, validator=ge(1))

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.dim = config.dim
        inner = EMAQuantizer.Config(num_codes=config.num_codes, dim=config.dim)
        self.first, self.second = EMAQuantizer(inner), EMAQuantizer(inner)

    traits = Traits(estimator="straight-through")

    def levels(self, grid: tuple[int, ...]) -> tuple[Level, ...]:
        num_codes = self.first.config.num_codes
        return Level("first", grid, num_codes), Level("second", grid, num_codes)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        first = self.first(z, mask)
        second = self.second(z - first.vectors.detach(), mask)
        merged: list[dict[str, Tensor]] = [
            {
                f"{name}.{key}": value
                for name, part in zip(("first", "second"), parts, strict=True)
                for key, value in part.items()
            }
            for parts in zip(first[2:], second[2:], strict=True)
        ]
        rows = rearrange(z, "b d ... -> b ... d")
        chosen = rearrange((first.vectors + second.vectors).detach(), "b d ... -> b ... d")
        vectors = rearrange(straight_through(rows, chosen), "b ... d -> b d ...")
        return Quantized(vectors, first.codes + second.codes, *merged)

    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        first = self.first.encode(z, mask)
        return first + self.second.encode(z - self.first.decode(first), mask)

    def decode(self, codes: Codes) -> Tensor:
        vectors = self.first.decode(codes[:1])
        return vectors + self.second.decode(codes[1:]) if len(codes) > 1 else vectors

    def update(self, pending: dict[str, Tensor]) -> None:
        for name, inner in (("first", self.first), ("second", self.second)):
            inner.update({k.removeprefix(f"{name}."): v for k, v in pending.items() if k.startswith(f"{name}.")})

    def initialise(self, z: Tensor) -> None:
        self.first.initialise(z)
        left = rearrange(z, "n d -> 1 d n")
        left = left - self.first.decode(self.first.encode(left))
        self.second.initialise(rearrange(left, "1 d n -> n d"))


@final
class IndependentPrior(Prior):
    """Codes independent of each other, given the label and the first code of every coarser level."""

    @frozen(kw_only=True)
    class Config:
        """spread: of the first logits."""

        spread: float = field(default=1.0, validator=ge(0))

    def __init__(self, config: Any, *, levels: tuple[Level, ...], context: ContextShape) -> None:
        super().__init__()
        self.levels, self.context = levels, context
        self.tables = nn.ParameterList(config.spread * torch.randn(level.length, level.num_codes) for level in levels)
        sizes = [level.num_codes for level in context.coarser] + ([context.num_classes] if context.num_classes else [])
        self.shifts = nn.ModuleList(nn.ModuleList(nn.Embedding(size, level.num_codes) for size in sizes) for level in levels)

    def forward(self, codes: Codes, context: Context) -> tuple[Tensor, ...]:
        terms = []
        for i, code in enumerate(codes):
            log_probs = self._logits(i, context).log_softmax(dim=-1)
            found = log_probs.gather(-1, code.flatten(1).clamp(min=0).unsqueeze(-1)).squeeze(-1).unflatten(1, code.shape[1:])
            terms.append(torch.where(code == MASKED, 0.0, found))
        return tuple(terms)

    @torch.no_grad()
    def sample(
        self, context: Context, *, sampling: Sampling, generators: Sequence[Generator], given: Codes | None = None
    ) -> Codes:
        drawn = []
        for i, level in enumerate(self.levels):
            uniforms = torch.stack([torch.rand(level.length, generator=g, dtype=torch.float64) for g in generators])
            logits = self._logits(i, context)
            own = torch.stack([draw(logits[:, t], uniforms[:, t], sampling) for t in range(level.length)], dim=1)
            own = own.unflatten(1, level.grid)
            drawn.append(own if given is None else torch.where(given[i] == MASKED, own, given[i]))
        return tuple(drawn)

    def _logits(self, i: int, context: Context) -> Tensor:
        logits = self.tables[i].expand(context.batch, -1, -1)
        keys = [code.flatten(1)[:, 0] for code in context.coarser] + ([context.labels] if context.labels is not None else [])
        for shift, key in zip(self.shifts[i], keys, strict=True):  # type: ignore[arg-type]
            logits = logits + shift(key).unsqueeze(1)
        return logits


@final
class CheatingPrior(Nothing, Prior):
    """Gives every code probability one, as a model does that leaks what it predicts."""

    def __init__(self, config: Any, *, levels: tuple[Level, ...], context: ContextShape) -> None:
        super().__init__()
        self.levels = levels
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, codes: Codes, context: Context) -> tuple[Tensor, ...]:
        return tuple(self.weight * torch.zeros_like(code, dtype=self.weight.dtype) for code in codes)

    def sample(
        self, context: Context, *, sampling: Sampling, generators: Sequence[Generator], given: Codes | None = None
    ) -> Codes:
        return tuple(torch.zeros(context.batch, *level.grid, dtype=torch.int64) for level in self.levels)


@final
class NoiseDataset(Nothing, Dataset):
    """Random signals with labels, the same on every machine."""

    located = False

    def __init__(self, n: int = 24, shape: tuple[int, ...] = (3, 8, 8), classes: int = 2) -> None:
        self.shape = shape
        self.classes = tuple(f"class{i}" for i in range(classes))
        self.labels = torch.arange(n) % classes
        self.parts = {"train": (0, n)}
        self._signals = torch.rand(n, *shape, generator=Generator().manual_seed(0)) * 2 - 1

    def signals(self, indices: Sequence[int]) -> Tensor:
        return self._signals[torch.as_tensor(indices, dtype=torch.int64)]

    def digest(self) -> str:
        return f"noise/{tuple(self._signals.shape)}"
