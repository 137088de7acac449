"""Training steps of dvgen, as its loop takes them, and of peers, as their scripts do."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from measured import Work
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dvgen.code_model import CodeModel
from dvgen.discovery import discover
from dvgen.experiment import Training
from dvgen.interfaces.codes import Level
from dvgen.interfaces.context import ContextShape
from dvgen.interfaces.prior import Prior
from dvgen.training.interrupt import StopRequest
from dvgen.training.loop import Loop, Plan
from dvgen.training.prior import PriorStage
from dvgen.training.session import Hardware, Session, open_session
from dvgen.training.stage import Stage

NUM_CODES, RATE = 512, 1e-4
PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}


class Side(NamedTuple):
    """One of those that are compared. step: one training step. compiled: the modules that are to be compiled for it."""

    step: Work
    parameters: int
    compiled: Sequence[nn.Module] = ()


class FixedCodes:
    """In the place of a token cache: the same batch of one level, always."""

    def __init__(self, codes: Tensor) -> None:
        self.batch = codes
        self.levels = (Level("codes", tuple(codes.shape[1:]), NUM_CODES),)

    def size(self, split: str) -> int:
        """Maps in a split."""
        return len(self.batch)

    def codes(self, split: str, indices: Tensor) -> tuple[Tensor, ...]:
        """The maps of the batch at these indices."""
        return (self.batch[indices],)


def session(precision: str) -> Session:
    """What a run on this machine has."""
    return open_session(discover(), StopRequest(), Hardware(accelerator="cpu", precision=PRECISIONS[precision]))


def make_prior(name: str, side: int, **fields: Any) -> Prior:
    """An untrained prior over side x side codes; the same weights each time."""
    torch.manual_seed(0)
    cls: Any = discover().registry.load("prior", name)
    prior: Prior = cls(cls.Config(**fields), levels=(Level("codes", (side, side), NUM_CODES),), context=ContextShape())
    return prior


def prior_sides(build: Callable[[], Prior], codes: Tensor, *, compiled: bool) -> dict[str, Side]:
    """A prior, trained by dvgen in both precisions."""

    def stage(opened: Session) -> Stage:
        fixed: Any = FixedCodes(codes)
        return PriorStage(CodeModel([build()]), fixed, labels=False, seed=0, autocast=opened.fabric.autocast)

    return our_sides(stage, len(codes), compiled=compiled)


def our_sides(build: Callable[[Session], Stage], batch: int, *, compiled: bool) -> dict[str, Side]:
    """A stage in both precisions; with `compiled` once more each, compiled."""
    ways = [(precision, False) for precision in PRECISIONS] + [(precision, True) for precision in PRECISIONS if compiled]
    found = {}
    for precision, compiling in ways:
        opened = session(precision)
        found[f"dvgen {precision}{', compiled' if compiling else ''}"] = _our_side(build(opened), opened, batch, compiling)
    return found


def _our_side(stage: Stage, opened: Session, batch: int, compiling: bool) -> Side:
    loop = Loop(opened, stage, Plan(Path("never-written"), Training(lr=RATE, betas=(0.9, 0.999), batch=batch), 0, {}))
    loop._prepare(None)

    def step() -> None:
        loop._take_step(1.0)
        loop.meter.steps += 1

    trained = [player.module for player in loop.players]
    return Side(step, sum(map(parameters, trained)), stage.compiled() if compiling else ())


def their_sides(
    name: str, loss: Callable[[], Tensor], network: nn.Module, make: type[torch.optim.Optimizer] = torch.optim.Adam
) -> dict[str, Side]:
    """A peer's step in both precisions, with an optimizer as its scripts make it. Weights are shared by the two."""
    found = {}
    for precision in PRECISIONS:
        optimizer = make(network.parameters(), lr=RATE)
        found[f"{name} {precision}"] = Side(_their_step([(loss, optimizer)], precision), parameters(network))
    return found


def in_turn_sides(name: str, players: Sequence[tuple[Callable[[], Tensor], Any]], count: int) -> dict[str, Side]:
    """The like for several optimizers that take turns on one batch, each with a loss, and a forward pass, of its own."""
    return {f"{name} {precision}": Side(_their_step(players, precision), count) for precision in PRECISIONS}


def _their_step(players: Sequence[tuple[Callable[[], Tensor], Any]], precision: str) -> Work:
    every = [parameter for _, optimizer in players for parameter in _parameters_of(optimizer)]

    def step() -> None:
        for loss, optimizer in players:
            if len(players) > 1:  # as Lightning 1.0: what does not belong to this optimizer takes no part in the graph
                for parameter in every:
                    parameter.requires_grad_(False)
                for parameter in _parameters_of(optimizer):
                    parameter.requires_grad_(True)
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                value = loss()
            value.backward()
            optimizer.step()

    return step


def _parameters_of(optimizer: torch.optim.Optimizer) -> Iterable[nn.Parameter]:
    return (parameter for group in optimizer.param_groups for parameter in group["params"])


def parameters(network: nn.Module) -> int:
    """How many."""
    return sum(parameter.numel() for parameter in network.parameters())


def operations(work: Work) -> int:
    """Floating-point operations of matrix products, convolutions and attention in one call."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())
