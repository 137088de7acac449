"""What the training loop asks of a stage."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn


class StepResult(NamedTuple):
    """One micro-batch: the loss to differentiate, scalars to log, statistics for `update`."""

    loss: Tensor
    values: dict[str, Tensor]
    pending: dict[str, Tensor]


class Report(NamedTuple):
    """What a stage has to say since its last report: scalars to log, and lines for the person who trains."""

    values: Mapping[str, float]
    notices: Sequence[str]


class Stage(ABC):
    """What the loop needs to know of a stage.

    module: what is trained, wrapped whole. size: number of training examples. forward_methods: methods of the module, beside
    `forward`, that `compute` calls and that must pass through autocast and DDP. Randomness comes from torch's global state,
    which the loop seeds for every step from (seed, step, rank), so that resuming needs no saved random state.
    """

    name: str
    module: nn.Module
    size: int
    forward_methods: tuple[str, ...] = ()

    @abstractmethod
    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups for the optimiser."""

    @abstractmethod
    def compute(self, module: nn.Module, indices: Tensor, step: int) -> StepResult:
        """Loss of the examples at these indices; `module` is the wrapped module."""

    def initialise(self) -> None:
        """Set state from data, once, before step 0. Default: nothing."""

    def schedule(self, step: int) -> None:
        """Prepare for a step. Default: nothing."""

    def update(self, pending: dict[str, Tensor]) -> None:
        """Move the state that gradients do not, after a finite step. Default: nothing."""

    def report(self, step: int, total: Callable[[Tensor], Tensor], *, finished: bool) -> Report:
        """At log steps and at the end, on all ranks: `total` sums a tensor over them. Reads only. Default: nothing."""
        return Report({}, ())
