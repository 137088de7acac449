"""Feature extractors, in whose space sets of signals are compared."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor

from dvgen.interfaces.data import Dataset
from dvgen.interfaces.model import Model


class Features(Model, ABC):
    """Signals to vectors; `__init__(config, *, channels)`.

    dim: width of the vectors of one network.
    members: how many independent networks there are; a metric is the mean over them, and tells its range.
    label: what a metric's name carries, such as "rand:v2"; two extractors whose values differ have different labels.
    weights_hash: SHA-256 (hex) of the weights in use.
    official: True only for the 2015 Inception features, whose Frechet distance alone may be called FID.
    learned: True for features that are learned from the training split: `fit`, or weights that an earlier `fit` left, must
        come before `forward`; label and weights_hash are known only then, and `load_state_dict` sets them too. The label of
        the class itself names the recipe, and changes with it.
    opt_in: True for features that are measured only where they are named.
    """

    dim: int
    members: int = 1
    label: str
    weights_hash: str
    official: bool = False
    learned: ClassVar[bool] = False
    opt_in: ClassVar[bool] = False

    @abstractmethod
    def forward(self, signals: Tensor) -> Tensor:
        """Float64 or float32 vectors (b, members * dim), one network after the other, from signals (b, channels, *size).

        Signals are in [-1, 1] and already rounded, images to 8 bits and sound to 16. Raises ShapeError for signals that it
        cannot take.
        """

    def fit(self, dataset: Dataset, indices: Tensor, pause: Callable[[], None]) -> None:
        """Learn from the labelled signals of a data set at `indices` (n,) int64, the training split. Default: nothing.

        `pause` is called now and then, and may raise to stop. Raises ConfigError for data that it cannot learn from.
        """
