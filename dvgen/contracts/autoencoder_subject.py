"""An encoder and a decoder that belong together, and what they are tried on."""

from typing import Any, final

import torch
from torch import Tensor, nn

from dvgen.contracts.model_subject import Example, ModelSubject, weighted
from dvgen.contracts.taken_shapes import Shapes, TakesSignals
from dvgen.errors import ConfigError
from dvgen.interfaces.autoencoder import Decoder, Encoder

SHAPES = ((3, 16, 16), (1, 8, 16), (1, 64), (2, 32), (3, 32, 32), (1, 64, 64), (1, 256))
"""Signals that are offered to an encoder, (channels, *size)."""


@final
class Pair(nn.Module):
    """Encoder and decoder as one model."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Those of both."""
        return self.encoder.parameter_groups() + self.decoder.parameter_groups()


@final
class AutoencoderSubject(TakesSignals, ModelSubject):
    """Encoder and decoder; configs are `tiny()` unless given.

    shapes: (channels, *size) of signals, those of SHAPES that the encoder takes unless given. Inputs are signals
    (b, channels, *size) and, as if quantized, one map of vectors (b, dims[i], *grid) a map.
    """

    offered = SHAPES

    def __init__(
        self,
        encoder: type[Encoder],
        decoder: type[Decoder],
        configs: tuple[Any, Any] = (None, None),
        shapes: Shapes | None = None,
    ) -> None:
        ModelSubject.__init__(self, (encoder, decoder), configs)
        TakesSignals.__init__(self, encoder, shapes)

    @property
    def dims(self) -> tuple[int, ...]:
        """The width of each map: all different, so that they cannot be exchanged."""
        encoder: Any = self.kinds[0]
        return tuple(3 + i for i in range(encoder.maps(self.configs[0])))

    def encoder(self, channels: int, dims: tuple[int, ...]) -> Encoder:
        """An encoder alone."""
        kind: Any = self.kinds[0]
        return kind(self.configs[0], channels=channels, dims=dims)

    def made(self, configs: tuple[Any, ...], example: Example) -> Pair:
        """The pair."""
        encoder, decoder = (
            kind(config, channels=self.shape(example)[0], dims=self.dims)  # type: ignore[call-arg]
            for kind, config in zip(self.kinds, configs, strict=True)
        )
        return Pair(encoder, decoder)  # type: ignore[arg-type]

    def inputs(self, example: Example, dtype: torch.dtype = torch.float64) -> tuple[Any, ...]:
        """Signals, and vectors of all maps."""
        shape = self.shape(example)
        grids = self.encoder(shape[0], self.dims).grids(shape[1:])
        vectors = tuple(
            example.normal(example.batch, dim, *grid, dtype=dtype, salt=i + 1)
            for i, (dim, grid) in enumerate(zip(self.dims, grids, strict=True))
        )
        return example.normal(example.batch, *shape, dtype=dtype), vectors

    def outputs(self, model: nn.Module, *inputs: Any) -> dict[str, Tensor]:
        """Features of every map, what each quantizer sees, what the decoder returns, and signals."""
        signals, vectors = inputs
        pair: Any = model
        features = pair.encoder(signals)
        named = {f"features.{i}": feature for i, feature in enumerate(features)}
        for i in range(len(features)):
            named[f"conditioned.{i}"] = pair.encoder.condition(i, features, vectors[:i])
        named["output"] = pair.decoder(vectors)
        return named | {"signals": pair.decoder.signals(named["output"])}

    def objective(self, model: nn.Module, *inputs: Any) -> Tensor:
        """Of what the quantizers and the losses see; features that neither sees train nothing."""
        named = self.outputs(model, *inputs)
        seen = [value for name, value in named.items() if name == "output" or name.startswith("conditioned.")]
        return torch.stack([weighted(value) for value in seen]).sum()

    def _takes(self, shape: tuple[int, ...]) -> bool:
        try:
            self.encoder(shape[0], self.dims).grids(shape[1:])
        except ConfigError:
            return False
        return True
