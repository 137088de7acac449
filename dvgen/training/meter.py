"""What training has spent, on all four axes that a budget may be given in."""

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from attrs import define, field, frozen
from lightning_fabric import Fabric
from torch.utils.flop_counter import FlopCounterMode

from dvgen.training.compilation import Compilation
from dvgen.training.ranks import total


@frozen(kw_only=True)
class Spent:
    """What a stage has been trained for, over all ranks together.

    steps: of the optimiser. codes: trained on, codes of an example times examples, repetitions counted. flops: dense
    floating-point operations, forward and backward of all players, as torch's counter has them: matrix products,
    convolutions and attention, nothing taken off for causal masks or masked convolutions. seconds: of training alone.
    """

    steps: int = 0
    codes: int = 0
    flops: int = 0
    seconds: float = 0.0


@define(kw_only=True)
class Meter:
    """Counts steps, codes and operations, and holds the clock.

    The operations of a step are counted once for each kind of step that its stage has, around the first of that kind,
    which is a step like any other. A resumed run takes the counts of the checkpoint (`costs`), so that what a step costs,
    and so where a budget ends, does not depend on where a run was stopped. The clock runs after warm-up: a step that is
    counted is slow, as is the first of a process, and neither is timed; nor is one in which something was compiled, whose
    seconds are added up apart (`compile_seconds`, of this process), nor what is done while the meter is `paused`.

    codes_per_step: of the whole batch. fabric: whose ranks share what they count; their clocks are averaged, so that all see
    a budget end at one step. flops: None until the first count when steps were taken before there were counts.
    compilation: of what is trained, if it is compiled; a step that is counted is not.
    """

    codes_per_step: int
    fabric: Fabric
    steps: int = 0
    flops: int | None = 0
    seconds: float = 0.0
    costs: dict[str, int] = field(factory=dict)
    compilation: Compilation | None = None
    compile_seconds: float = field(default=0.0, init=False)
    _timed: int = field(default=0, init=False)
    _warm: bool = field(default=False, init=False)
    _seconds_before: float = field(default=0.0, init=False)
    _read_at: float = field(default=0.0, init=False)

    @property
    def spent(self) -> Spent:
        """What was spent so far."""
        return Spent(steps=self.steps, codes=self.steps * self.codes_per_step, flops=self.flops or 0, seconds=self.seconds)

    @property
    def told(self) -> dict[str, float]:
        """What observers are told of it; `compile_seconds` where something is compiled."""
        spent = self.spent
        compiling = {"compile_seconds": self.compile_seconds} if self.compilation else {}
        return {"codes": spent.codes, "flops": spent.flops, "seconds": spent.seconds, **compiling}

    @property
    def steps_per_second(self) -> float:
        """Of those steps that were timed since `start`; 0 before the first."""
        return self._timed / max(self.seconds - self._seconds_before, 1e-9)

    def resume(self, spent: Spent, costs: Mapping[str, int]) -> None:
        """Go on from a checkpoint; one without costs was written before operations were counted."""
        self.steps, self.seconds, self.costs = spent.steps, spent.seconds, dict(costs)
        self.flops = spent.flops if costs else None

    def start(self) -> None:
        """Start the clock."""
        self._seconds_before, self._timed, self._warm = self.seconds, 0, False
        self._read_at = time.monotonic()

    @contextmanager
    def step(self, kind: str) -> Iterator[None]:
        """Around one step: count it, and its operations if it is the first of its kind."""
        timed, self._warm = self._warm and kind in self.costs, True
        began, graphs = time.monotonic(), self._graphs()
        with nullcontext() if timed else self.paused():
            if kind in self.costs:
                yield
            else:
                with self._eagerly(), FlopCounterMode(display=False) as counter:
                    yield
                self.costs[kind] = int(self._over_ranks(counter.get_total_flops()))
        if self.compilation and self._over_ranks(self._graphs() - graphs):
            timed = self._leave_out(began)
        self._timed += timed
        self.flops = self.costs[kind] + (self.costs[kind] * self.steps if self.flops is None else self.flops)
        self.steps += 1
        self._read()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Around what is not training. Only here does the host wait for the device: a wait at every step would cost speed."""
        self._wait()
        self._read()
        yield
        self._wait()
        self._read_at = time.monotonic()

    def _graphs(self) -> int:
        return self.compilation.graphs() if self.compilation else 0

    def _eagerly(self) -> AbstractContextManager[None]:
        return self.compilation.eagerly() if self.compilation else nullcontext()

    def _leave_out(self, began: float) -> bool:
        """Count what has passed since as compiling, and as no training."""
        self._wait()
        self._read_at = time.monotonic()
        self.compile_seconds += self._read_at - began
        return False

    def _read(self) -> None:
        now = time.monotonic()
        self.seconds += self._over_ranks(now - self._read_at) / self.fabric.world_size
        self._read_at = now

    def _over_ranks(self, number: float) -> float:
        if self.fabric.world_size == 1:
            return number
        return total(self.fabric, torch.tensor(number, device=self.fabric.device)).item()

    def _wait(self) -> None:
        if self.fabric.device.type != "cpu":
            torch.accelerator.synchronize(self.fabric.device)
