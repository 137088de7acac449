"""Whether what a step computed is finite: asked before the step is applied, and answered when the host may look."""

from collections.abc import Mapping

import torch
from attrs import define, field, frozen
from lightning_fabric import Fabric
from torch import Tensor

from dvgen.errors import NonFiniteError
from dvgen.training.ranks import total


@frozen
class _Asked:
    """A step's numbers on their way to the host, and behind them how many ranks have one that is not finite.

    arrived: None where they are there already.
    """

    step: int
    names: tuple[str, ...]
    numbers: Tensor
    arrived: torch.Event | None


@define
class Finiteness:
    """Raises NonFiniteError, on every rank, for a step with a NaN or an infinity on any.

    late: look at a step's numbers when the next step has been computed, so that the host never waits for the device to
    finish what it was just given. A step that is not finite is applied then, and nothing after it: whoever saves, reports or
    ends must `settle` before. hint: the end of the message.
    """

    fabric: Fabric
    stage: str
    hint: str
    late: bool
    _open: _Asked | None = field(default=None, init=False)

    def check(self, step: int, numbers: Mapping[str, Tensor]) -> None:
        """Take in the scalars of a step; when late, answer for the step before."""
        asked = self._ask(step, numbers)
        self.settle()
        self._open = asked
        if not self.late:
            self.settle()

    def settle(self) -> None:
        """Wait for what was last asked; raises if it was not finite."""
        asked, self._open = self._open, None
        if asked is None:
            return
        if asked.arrived is not None:
            asked.arrived.synchronize()
        *numbers, bad = asked.numbers.tolist()
        if not bad:
            return
        told = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in zip(asked.names, numbers, strict=True))
        done = (
            "it was seen when the weights had taken the step, so nothing of them is saved: training goes on from the newest "
            "checkpoint"
            if self.late
            else "nothing of this step was applied"
        )
        raise NonFiniteError(f"{self.stage}, step {asked.step}: {told}; {done}; {self.hint}")

    def _ask(self, step: int, numbers: Mapping[str, Tensor]) -> _Asked:
        values = torch.stack([value.detach() for value in numbers.values()])
        bad = total(self.fabric, (~values.isfinite()).any().to(values.dtype))
        told = torch.cat([values, bad.reshape(1)]).to("cpu", non_blocking=self.late)
        arrived = None
        if self.late and values.device.type != "cpu":
            arrived = torch.Event(values.device)
            arrived.record()
        return _Asked(step, tuple(numbers), told, arrived)
