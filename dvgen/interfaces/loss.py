"""Losses of stage one: reconstruction, and the two sides of adversarial training."""

from abc import ABC, abstractmethod

from torch import Tensor

from dvgen.interfaces.model import Model


class Loss(Model, ABC):
    """How far a reconstruction is from its signal; `__init__(config)`."""

    @abstractmethod
    def forward(self, reconstructed: Tensor, signals: Tensor) -> Tensor:
        """A scalar from two tensors (b, channels, *size); 0 when they are equal."""


class AdversarialLoss(Model, ABC):
    """The two sides of the adversarial game, from discriminator logits; `__init__(config)`."""

    @abstractmethod
    def generator(self, fake: Tensor) -> Tensor:
        """What the generator minimises: a scalar from logits of reconstructed signals."""

    @abstractmethod
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the discriminator minimises: a scalar from logits of real and (detached) reconstructed signals."""
