"""What a prior may look at beside its own level."""

from typing import NamedTuple

import torch
from attrs import frozen
from torch import Tensor

from dvgen.interfaces.codes import Codes, Level

UNCONDITIONAL = -1
"""The class label of a sample whose label is unknown, dropped, or not to be used."""


@frozen
class ContextShape:
    """The shape of the context, known when a prior is built: the coarser levels, and how many classes (0: no labels)."""

    coarser: tuple[Level, ...] = ()
    num_classes: int = 0


class Context(NamedTuple):
    """The context of a batch.

    batch: number of samples b.
    coarser: codes of the coarser levels, (b, *grid) int64 each, in the order of `ContextShape.coarser`.
    labels: (b,) int64 class labels, UNCONDITIONAL where there is none; None when the prior was built without classes.
    """

    batch: int
    coarser: Codes = ()
    labels: Tensor | None = None

    def unconditional(self) -> "Context":
        """The same context without class labels, for classifier-free guidance."""
        labels = None if self.labels is None else torch.full_like(self.labels, UNCONDITIONAL)
        return self._replace(labels=labels)
