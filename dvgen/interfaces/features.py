"""Feature extractors, in whose space sets of signals are compared."""

from abc import ABC, abstractmethod

from torch import Tensor

from dvgen.interfaces.model import Model


class Features(Model, ABC):
    """Signals to vectors; `__init__(config, *, channels)`.

    dim: width of the vectors.
    label: what a metric's name carries, such as "rand:v1"; two extractors whose values differ have different labels.
    weights_hash: SHA-256 (hex) of the weights in use.
    official: True only for the 2015 Inception features, whose Frechet distance alone may be called FID.
    """

    dim: int
    label: str
    weights_hash: str
    official: bool = False

    @abstractmethod
    def forward(self, signals: Tensor) -> Tensor:
        """Float64 or float32 vectors (b, dim) from signals (b, channels, *size) in [-1, 1].

        They are already rounded, images to 8 bits and sound to 16.
        """
