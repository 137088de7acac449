"""Discriminators and losses of signals, and what they are tried on."""

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn

from dvgen.contracts.model_subject import Example, ModelSubject
from dvgen.contracts.taken_shapes import TRIED, Shapes, TakesSignals
from dvgen.errors import ConfigError, ShapeError
from dvgen.interfaces.discriminator import Discriminator
from dvgen.interfaces.loss import AdversarialLoss, Loss

SHAPES = ((3, 16, 16), (1, 16, 20), (1, 64), (2, 32), (3, 32, 32), (1, 64, 64), (1, 256))
"""Signals that are offered, (channels, *size)."""

PATCHES = ((4, 4), (1,), (7,), (1, 3))
"""Grids of logits that an adversarial loss is tried on."""


class SignalSubject(TakesSignals, ModelSubject):
    """What takes signals; the config is `tiny()` unless given.

    shapes: (channels, *size), those of SHAPES for which no ShapeError is raised unless given.
    """

    offered = SHAPES

    def __init__(self, kind: type[Any], config: Any = None, shapes: Shapes | None = None) -> None:
        ModelSubject.__init__(self, (kind,), (config,))
        TakesSignals.__init__(self, kind, shapes)

    @torch.no_grad()
    def _takes(self, shape: tuple[int, ...]) -> bool:
        alone = type(self)(self.kinds[0], self.configs[0], (shape,))
        try:
            alone.outputs(alone.fresh(Example()), *alone.inputs(Example(), torch.float32))
        except (ShapeError, ConfigError):
            return False
        return True


@final
class DiscriminatorSubject(SignalSubject):
    """A discriminator; inputs are signals (b, channels, *size)."""

    def made(self, configs: tuple[Any, ...], example: Example) -> Discriminator:
        """The discriminator."""
        kind: Any = self.kinds[0]
        return kind(*configs, channels=self.shape(example)[0])

    def inputs(self, example: Example, dtype: torch.dtype = torch.float64) -> tuple[Any, ...]:
        """Signals."""
        return (example.normal(example.batch, *self.shape(example), dtype=dtype),)

    def outputs(self, model: nn.Module, *inputs: Any) -> dict[str, Tensor]:
        """Logits."""
        return {"logits": model(*inputs)}


@final
class LossSubject(SignalSubject):
    """A loss; inputs are what it reads and signals (b, channels, *size) in [-1, 1].

    read: for a loss that reads the parameters of a distribution, the shape of these, without b, from that of signals.
    """

    batched = False
    trained = False

    def __init__(
        self,
        kind: type[Loss],
        config: Any = None,
        shapes: Shapes | None = None,
        read: Callable[[tuple[int, ...]], tuple[int, ...]] | None = None,
    ) -> None:
        super().__init__(kind, config, shapes or (None if read is None else SHAPES[:TRIED]))
        self.read = read or (lambda shape: shape)

    def made(self, configs: tuple[Any, ...], example: Example) -> Loss:
        """The loss."""
        return self.kinds[0](*configs)  # type: ignore[return-value]

    def inputs(self, example: Example, dtype: torch.dtype = torch.float64) -> tuple[Any, ...]:
        """What it reads, and signals."""
        shape = self.shape(example)
        given = example.normal(example.batch, *self.read(shape), dtype=dtype, salt=1)
        return given.tanh(), example.normal(example.batch, *shape, dtype=dtype).tanh()

    def outputs(self, model: nn.Module, *inputs: Any) -> dict[str, Tensor]:
        """The loss."""
        return {"loss": model(*inputs)}


@final
class AdversarialLossSubject(ModelSubject):
    """An adversarial loss; inputs are logits (b, 1, *patches) of real and of reconstructed signals."""

    batched = False
    trained = False

    def __init__(self, kind: type[AdversarialLoss], config: Any = None) -> None:
        super().__init__((kind,), (config,))
        self.variety = len(PATCHES)

    def made(self, configs: tuple[Any, ...], example: Example) -> AdversarialLoss:
        """The loss."""
        return self.kinds[0](*configs)  # type: ignore[return-value]

    def inputs(self, example: Example, dtype: torch.dtype = torch.float64) -> tuple[Any, ...]:
        """Logits of real and of reconstructed signals."""
        patches = PATCHES[example.shape % len(PATCHES)]
        real, fake = (example.normal(example.batch, 1, *patches, dtype=dtype, salt=salt) for salt in (0, 1))
        return real, fake

    def outputs(self, model: nn.Module, *inputs: Any) -> dict[str, Tensor]:
        """Both losses."""
        real, fake = inputs
        loss: Any = model
        return {"generator": loss.generator(fake), "discriminator": loss.discriminator(real, fake)}
