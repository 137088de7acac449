"""Losses of stage one: reconstruction, and the two sides of adversarial training."""

from abc import ABC, abstractmethod

from torch import Tensor

from dvgen.interfaces.model import Model


class Loss(Model, ABC):
    """How far a reconstruction is from its signal; `__init__(config)`.

    reads: what it compares with the signals. "signals", or the distribution whose parameters the decoder `makes`.
    """

    reads: str = "signals"

    @abstractmethod
    def forward(self, reconstructed: Tensor, signals: Tensor) -> Tensor:
        """A scalar from two tensors (b, channels, *size); 0 when they are equal.

        One that reads a distribution is given the decoder's output, and is a negative log-likelihood a channel and place.
        """


class AdversarialLoss(Model, ABC):
    """The two sides of the adversarial game, from discriminator logits; `__init__(config)`."""

    @abstractmethod
    def generator(self, fake: Tensor) -> Tensor:
        """What the generator minimises: a scalar from logits of reconstructed signals."""

    @abstractmethod
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the discriminator minimises: a scalar from logits of real and (detached) reconstructed signals."""
