"""The tokenizer: encoder, quantizers and decoder as one module. Signals to codes and back, whatever the hierarchy."""

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple, final

import attrs
import torch
from einops import rearrange
from torch import Tensor, nn

from dvgen.assembly import build, component_config
from dvgen.config import canonical
from dvgen.errors import ConfigError, ShapeError
from dvgen.experiment import Experiment
from dvgen.interfaces.autoencoder import Decoder, Encoder
from dvgen.interfaces.codes import Codes, Level, check_codes
from dvgen.interfaces.quantizer import Quantized, Quantizer
from dvgen.registry import Registry

VALUES_AT_ONCE = 256 * 3 * 32 * 32
"""Values of signals that go through the encoder at a time outside training: 256 images of 32x32, 4 of 256x256."""

MAP_NAMES = {1: ("",), 2: ("top", "bottom"), 3: ("top", "middle", "bottom")}


class Tokenized(NamedTuple):
    """What a pass through the tokenizer yields; losses, stats and pending of quantizer i are prefixed "<map name>." or "<i>.".

    reconstructed: (b, channels, *size). output: what the decoder returned, the same unless it makes a distribution.
    codes: all levels. losses, stats: named scalars and counts. pending: for `update`.
    """

    reconstructed: Tensor
    output: Tensor
    codes: Codes
    losses: dict[str, Tensor]
    stats: dict[str, Tensor]
    pending: dict[str, Tensor]


@final
class Tokenizer(nn.Module):
    """Signals (b, *shape) to codes of all levels, and back. `shape` is (channels, *size).

    Of the size that it is trained on, that is; but signals and codes of any other that the encoder takes pass as well.
    Map i of the encoder belongs to quantizer i; the levels of all quantizers, coarse first, are the tokenizer's levels.
    """

    def __init__(self, encoder: Encoder, quantizers: Sequence[Quantizer], decoder: Decoder, *, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder = encoder
        self.quantizers = nn.ModuleList(quantizers)
        self.decoder = decoder
        self.shape = shape
        grids = encoder.grids(shape[1:])
        if len(grids) != len(quantizers):
            raise ConfigError(
                f"quantizer: the encoder makes {len(grids)} maps, so it takes {len(grids)} quantizers, not {len(quantizers)}"
            )
        self.map_names = MAP_NAMES.get(len(grids)) or tuple(f"map{i}" for i in range(len(grids)))
        self._counts = [len(quantizer.levels(grid)) for quantizer, grid in zip(quantizers, grids, strict=True)]
        self.levels = self.levels_at(shape[1:])

    def levels_at(self, size: tuple[int, ...]) -> tuple[Level, ...]:
        """The levels of signals of this size; `levels` are those of `shape`. Raises ConfigError for a size it cannot take."""
        own = [quantizer.levels(grid) for quantizer, grid in zip(self._each(), self.encoder.grids(size), strict=True)]
        return tuple(
            _named(level, name, len(levels)) for name, levels in zip(self.map_names, own, strict=True) for level in levels
        )

    def forward(self, signals: Tensor) -> Tokenized:
        """Encode, quantize and decode signals (b, *shape)."""
        results = self._quantize(signals)
        merged: list[dict[str, Tensor]] = [{}, {}, {}]
        for i, quantized in enumerate(results):
            for target, values in zip(merged, (quantized.losses, quantized.stats, quantized.pending), strict=True):
                prefix = f"{self.map_names[i]}." if self.map_names[i] else ""
                target.update({prefix + name: value for name, value in values.items()})
        output = self.decoder(tuple(q.vectors for q in results))
        return Tokenized(self.decoder.signals(output), output, sum((q.codes for q in results), ()), *merged)

    def _quantize(self, signals: Tensor) -> list[Quantized]:
        features = self.encoder(signals)
        results: list[Quantized] = []
        for i, quantizer in enumerate(self.quantizers):
            results.append(quantizer(self.encoder.condition(i, features, tuple(q.vectors for q in results))))
        return results

    @torch.no_grad()
    def encode(self, signals: Tensor) -> Codes:
        """The codes of signals (b, *shape), all levels; pure and deterministic in evaluation mode."""
        features = self.encoder(signals)
        coarser: tuple[Tensor, ...] = ()
        codes: Codes = ()
        for i, quantizer in enumerate(self._each()):
            own = quantizer.encode(self.encoder.condition(i, features, coarser))
            codes += own
            coarser += (quantizer.decode(own),)
        return codes

    @torch.no_grad()
    def decode(self, codes: Codes) -> Tensor:
        """Signals (b, channels, *size) that codes of all levels stand for, whatever their size; not clamped.

        Raises ShapeError for codes out of range, and for grids that are not those of signals of one size.
        """
        check_codes(codes, self._levels_of(codes))
        vectors, first = [], 0
        for quantizer, count in zip(self._each(), self._counts, strict=True):
            vectors.append(quantizer.decode(codes[first : first + count]))
            first += count
        return self.decoder.signals(self.decoder(tuple(vectors)))

    def _levels_of(self, codes: Codes) -> tuple[Level, ...]:
        """The levels of the size that the last level's grid tells; those of `shape` where it tells none.

        Grids grow in proportion to the signals, so that one of them tells the size, and the size all others.
        """
        trained, shape = self.levels[-1].grid, self.shape[1:]
        grid = tuple(codes[-1].shape[1:]) if len(codes) == len(self.levels) else trained
        if not len(grid) == len(trained) == len(shape) or not all(grid):
            return self.levels
        try:
            return self.levels_at(tuple(side * many // few for side, many, few in zip(shape, grid, trained, strict=True)))
        except ConfigError as error:
            raise ShapeError(f"codes of grid {grid} belong to no signals that the encoder takes: {error}") from None

    @torch.no_grad()
    def initialise(self, signals: Tensor) -> None:
        """Set every codebook from the features of real signals (b, *shape), coarse first. Once, before step 0.

        A few signals go through the encoder at a time: hundreds of large images at once would need more memory than a step.
        """
        parts = signals.split(max(1, VALUES_AT_ONCE // math.prod(self.shape)))
        for i, quantizer in enumerate(self._each()):
            rows = [rearrange(self._seen(part, i), "b d ... -> (b ...) d") for part in parts]
            quantizer.initialise(torch.cat(rows))

    def _seen(self, signals: Tensor, last: int) -> Tensor:
        """What the quantizer of map `last` sees, (b, dim, *grid), after those of the coarser maps."""
        features = self.encoder(signals)
        coarser: tuple[Tensor, ...] = ()
        for i, quantizer in enumerate(self._each()[:last]):
            coarser += (quantizer.decode(quantizer.encode(self.encoder.condition(i, features, coarser))),)
        return self.encoder.condition(last, features, coarser)

    def schedule(self, step: int) -> None:
        """Tell every quantizer which step is about to be taken."""
        for quantizer in self._each():
            quantizer.schedule(step)

    def update(self, pending: dict[str, Tensor]) -> None:
        """Hand summed pending statistics to the quantizers they came from."""
        for name, quantizer in zip(self.map_names, self._each(), strict=True):
            prefix = f"{name}." if name else ""
            quantizer.update({key.removeprefix(prefix): value for key, value in pending.items() if key.startswith(prefix)})

    def _each(self) -> list[Quantizer]:
        return [quantizer for quantizer in self.quantizers if isinstance(quantizer, Quantizer)]


def _named(level: Level, map_name: str, siblings: int) -> Level:
    """Levels are named after their map; a map with several levels keeps their own names behind it."""
    if not map_name:
        return level
    return attrs.evolve(level, name=map_name if siblings == 1 else f"{map_name}-{level.name}")


def assemble_tokenizer(registry: Registry, experiment: Experiment, shape: tuple[int, ...]) -> Tokenizer:
    """Build the tokenizer an experiment names for signals of this shape (channels, *size).

    One `[quantizer]` is made anew for every map of the encoder; several are taken in order, coarse first.
    """
    maps = registry.load("encoder", experiment.encoder.use).maps(component_config(registry, "encoder", experiment.encoder))
    choices = experiment.quantizer * maps if len(experiment.quantizer) == 1 else experiment.quantizer
    quantizers = [build(registry, "quantizer", choice) for choice in choices]
    dims = tuple(quantizer.dim for quantizer in quantizers)
    encoder = build(registry, "encoder", experiment.encoder, channels=shape[0], dims=dims)
    decoder = build(registry, "decoder", experiment.decoder, channels=shape[0], dims=dims)
    return Tokenizer(encoder, quantizers, decoder, shape=shape)


def fingerprint(tokenizer: Tokenizer, config: object) -> str:
    """SHA-256 (hex) of the tokenizer's config and of every weight and buffer that evaluation uses."""
    digest = hashlib.sha256(canonical(config).encode())
    for name, tensor in sorted(tokenizer.state_dict().items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}:".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
