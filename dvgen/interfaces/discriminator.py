"""The discriminator of adversarial training."""

from abc import ABC, abstractmethod

from torch import Tensor

from dvgen.interfaces.model import Model


class Discriminator(Model, ABC):
    """Tells real signals from reconstructed ones, patch by patch; `__init__(config, *, channels)`."""

    @abstractmethod
    def forward(self, signals: Tensor) -> Tensor:
        """Logits (b, 1, *patches) from signals (b, channels, *size); large means real."""
