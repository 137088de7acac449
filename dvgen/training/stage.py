"""What the training loop asks of a stage."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from attrs import frozen
from torch import Tensor, nn

from dvgen.experiment import Training


@frozen
class Plan:
    """Where and how a stage is trained. `config` is what observers are shown."""

    folder: Path
    training: Training
    seed: int
    config: dict[str, Any]


class StepResult(NamedTuple):
    """One micro-batch: the loss to differentiate, scalars to log, statistics for `update`.

    rival_loss: the rival's own loss, of a graph of its own; None in a step in which the rival does not train.
    """

    loss: Tensor
    values: dict[str, Tensor]
    pending: dict[str, Tensor]
    rival_loss: Tensor | None = None


@frozen(kw_only=True)
class Rival:
    """A second model, trained by an optimiser of its own against what the first one makes: a discriminator.

    name: what its tensors are called in a checkpoint. lr: its highest rate; None for that of the stage.
    """

    name: str
    module: nn.Module
    groups: Sequence[dict[str, Any]]
    lr: float | None
    betas: tuple[float, float]


class Report(NamedTuple):
    """What a stage has to say since its last report: scalars to log, and lines for the person who trains."""

    values: Mapping[str, float]
    notices: Sequence[str]


class Stage(ABC):
    """What the loop needs to know of a stage.

    module: what is trained, wrapped whole. size: number of training examples. codes: of one example. forward_methods:
    methods of the module, beside `forward`, that `compute` calls and that must pass through DDP; `forward` alone passes
    through autocast. rival: its opponent, if any.
    Randomness comes from torch's global state, which the loop seeds for every step from (seed, step, rank), so that resuming
    needs no saved random state.
    """

    name: str
    module: nn.Module
    size: int
    codes: int
    forward_methods: tuple[str, ...] = ()
    rival: Rival | None = None

    @abstractmethod
    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups for the optimiser."""

    @abstractmethod
    def compute(self, modules: Sequence[nn.Module], indices: Tensor, step: int) -> StepResult:
        """Loss of the examples at these indices. modules: the wrapped module, then the wrapped rival if there is one."""

    def compiled(self) -> Sequence[nn.Module]:
        """What to compile where that was asked for: modules that `compute` calls as such. Default: all as one."""
        return [self.module]

    def initialise(self) -> None:
        """Set state from data, once, before step 0. Default: nothing."""

    def schedule(self, step: int) -> None:
        """Prepare for a step. Default: nothing."""

    def kind(self, step: int) -> str:
        """The name of a step's kind: steps of one kind take equally many operations. Default: all are of one."""
        return "step"

    def announce(self, indices: Tensor) -> None:
        """The examples of the `compute` after the coming one, which may be loaded meanwhile. Default: nothing."""

    def close(self) -> None:
        """End what was begun for `announce`: training is over, or has failed. Default: nothing."""

    def update(self, pending: dict[str, Tensor]) -> None:
        """Move the state that gradients do not, after a finite step. Default: nothing."""

    def report(self, step: int, total: Callable[[Tensor], Tensor], *, finished: bool) -> Report:
        """At log steps and at the end, on all ranks: `total` sums a tensor over them. Reads only. Default: nothing."""
        return Report({}, ())

    def held_out(self, batch: int) -> float | None:
        """Mean negative log-likelihood of held-out codes in nats a code, `batch` examples at once; None: the stage has none.

        On all ranks, between steps, with the weights that evaluation would use. Leaves everything as it was. Raises
        NonFiniteError and IntegrityError for values that are no likelihoods.
        """
        return None
