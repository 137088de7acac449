"""The training loop of both stages. It owns the state: a step is taken whole or not at all."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from attrs import define, evolve, field, frozen
from torch import Tensor

from dvgen.data.order import Order
from dvgen.errors import NonFiniteError, Stopped
from dvgen.experiment import Training, digest
from dvgen.hookspecs import Run
from dvgen.seeding import fold
from dvgen.training.budget import Budget, check_division, learning_share
from dvgen.training.checkpoint import AVERAGE, Checkpoint, check_config, load_newest, load_weights, save_checkpoint
from dvgen.training.folder import TRAINING_LOCK, locked, write_status
from dvgen.training.player import Player, Rates, WeightAverage
from dvgen.training.session import Session
from dvgen.training.stage import Report, Stage, StepResult

MOMENTS = "-optimizer"
"""What the file of a rival's optimiser is called, after the rival's name."""

__all__ = ["Loop", "Plan", "Report", "Stage", "StepResult"]


@frozen
class Plan:
    """Where and how a stage is trained. `config` is what observers are shown."""

    folder: Path
    training: Training
    seed: int
    config: dict[str, Any]


@define
class Loop:
    """One stage under way: `step` finished steps in `seconds` of training by the stage's model and its rival, if any."""

    session: Session
    stage: Stage
    plan: Plan
    step: int = 0
    seconds: float = 0.0
    players: list[Player] = field(factory=list)
    order: Order = field(init=False)
    started: float = 0.0
    resumed_at: float = 0.0

    def run(self) -> Checkpoint:
        """Train until the budget is spent, resuming from the newest checkpoint that verifies; idempotent.

        The stage's module is left with the weights that evaluation uses: averaged ones where they are kept.
        Raises Stopped (after saving) on request and NonFiniteError (nothing applied, nothing saved) on a NaN or infinity.
        """
        check_division(self.plan.training, self.session.fabric.world_size)
        with locked(self.plan.folder, self.session.fabric.is_global_zero, TRAINING_LOCK):
            finished = self._run()
        if AVERAGE in finished.more:
            load_weights(self.stage.module, finished.evaluated, self.plan.folder)
        return finished

    def _run(self) -> Checkpoint:
        found = load_newest(self.plan.folder)
        if found is not None:
            check_config(found, digest(self.plan.config), self.plan.folder)
        self._prepare(found)
        if found is not None and found.finished:
            return found
        record = Run(
            folder=self.plan.folder, stage=self.stage.name, name=self.plan.folder.name, step=self.step, config=self.plan.config
        )
        self._status("running")
        self.session.broadcast("dvgen_run_started", run=record)
        try:
            return self._train(record)
        except (Stopped, KeyboardInterrupt):
            self._status("stopped")
            raise
        except BaseException as error:
            self._status("failed", error=f"{type(error).__name__}: {error}")
            raise

    def _prepare(self, found: Checkpoint | None) -> None:
        fabric, training, stage = self.session.fabric, self.plan.training, self.stage
        self.order = Order(stage.size, training.batch, self.plan.seed)
        stage.module.to(fabric.device).train()
        if found is None:
            torch.manual_seed(fold(self.plan.seed, stage.name, "initialise"))
            stage.initialise()
        rates = Rates(lr=training.lr, betas=training.betas, weight_decay=training.weight_decay)
        self.players = [Player.set_up(fabric, stage.module, stage.groups(), rates)]
        if stage.rival is not None:
            own = Rates(lr=stage.rival.lr or training.lr, betas=stage.rival.betas, weight_decay=0.0)
            self.players.append(Player.set_up(fabric, stage.rival.module, stage.rival.groups, own))
        if training.ema:
            self.players[0].average = WeightAverage.of(stage.module, training.ema)
        if found is not None:
            self._load(found)
        for method in stage.forward_methods:
            self.players[0].wrapped.mark_forward_method(method)

    def _load(self, found: Checkpoint) -> None:
        self.step, self.seconds = found.step, found.seconds
        first, *rivals = self.players
        first.load(found.model, found.optimizer, self.plan.folder)
        if first.average is not None:
            for name, weight in first.average.weights.items():
                weight.copy_(found.more[AVERAGE][name])
        for rival, name in zip(rivals, self._rivals(), strict=True):
            rival.load(found.more[name], found.more[name + MOMENTS], self.plan.folder)

    def _rivals(self) -> list[str]:
        return [] if self.stage.rival is None else [self.stage.rival.name]

    def _train(self, record: Run) -> Checkpoint:
        training, budget = self.plan.training, Budget.of(self.plan.training)
        self.started, self.resumed_at = time.monotonic() - self.seconds, self.seconds
        while (progress := budget.progress(self.step, self.seconds)) < 1.0:
            values = self._take_step(learning_share(training, self.step, progress))
            self.step += 1
            self.seconds = time.monotonic() - self.started
            if self.step % training.log_every == 0 or self.step == 1:
                self._log(record, values, budget)
            stop = self.session.any_rank(self.session.stop.asked)
            if stop or self.step % training.checkpoint_every == 0:
                self._save(finished=False)
            if stop:
                where = f"step {self.step} of {record.name}"
                raise Stopped(f"stopped on request at {where}; `dvgen train --resume` or the same `dvgen compare` goes on")
        self._report(record, finished=True)
        checkpoint = self._save(finished=True)
        self._status("finished")
        self.session.broadcast("dvgen_run_finished", run=record, results={"step": self.step, "seconds": self.seconds})
        return checkpoint

    def _take_step(self, share: float) -> dict[str, Tensor]:
        """One optimiser step over all micro-batches and ranks, or NonFiniteError and no change of any weight or codebook."""
        fabric, training, stage = self.session.fabric, self.plan.training, self.stage
        for player in self.players:
            player.set_rate(share)
        torch.manual_seed(fold(self.plan.seed, stage.name, self.step, fabric.global_rank))
        stage.schedule(self.step)
        indices = self.order.batch(self.step, fabric.global_rank, fabric.world_size)
        pending: dict[str, Tensor] = {}
        values: dict[str, Tensor] = {}
        rival_loss: dict[str, Tensor] = {}
        moved = self.players
        parts = indices.chunk(training.micro_batches)
        for i, part in enumerate(parts):
            with self._synchronised(only_if=i == len(parts) - 1):
                result = self._compute(part)
                losses = [loss for loss in (result.loss, result.rival_loss) if loss is not None]
                for loss in losses:
                    fabric.backward(loss / len(parts))
            moved = self.players[: len(losses)]
            _add(pending, result.pending, 1.0)
            _add(values, {"loss": result.loss.detach(), **result.values}, 1.0 / len(parts))
            if result.rival_loss is not None:
                _add(rival_loss, {"rival_loss": result.rival_loss}, 1.0 / len(parts))
        norms = dict(
            zip(("gradient_norm", "rival_gradient_norm"), (p.clip(fabric, training.clip) for p in moved), strict=False)
        )
        self._check_finite({"loss": values["loss"], **norms, **rival_loss})
        for player in moved:
            player.step(self.step + 1)
        stage.update(self._sum_over_ranks(pending))
        return values | norms

    @contextmanager
    def _synchronised(self, *, only_if: bool) -> Iterator[None]:
        """Gradients of the last micro-batch alone are summed over ranks, with what the others added to them."""
        with ExitStack() as stack:
            for player in self.players:
                stack.enter_context(self.session.fabric.no_backward_sync(player.wrapped, enabled=not only_if))
            yield

    def _check_finite(self, numbers: Mapping[str, Tensor]) -> None:
        """Raise NonFiniteError on every rank when one of the numbers is not finite on any."""
        if self.session.any_rank(not bool(torch.stack(list(numbers.values())).isfinite().all())):
            told = ", ".join(f"{name.replace('_', ' ')} {float(value)}" for name, value in numbers.items())
            raise NonFiniteError(
                f"{self.stage.name}, step {self.step}: {told}; nothing of this step was applied; "
                f"try a lower lr{'' if self.stage.rival is None else ' of the one that is not finite'}, or longer warmup"
            )

    def _compute(self, indices: Tensor) -> StepResult:
        try:
            return self.stage.compute([player.wrapped for player in self.players], indices, self.step)
        except NonFiniteError as error:
            raise NonFiniteError(f"{self.stage.name}, step {self.step}: {error}") from error

    def _sum_over_ranks(self, pending: dict[str, Tensor]) -> dict[str, Tensor]:
        """One all-reduce for all statistics."""
        if self.session.fabric.world_size == 1 or not pending:
            return pending
        names = sorted(pending)
        flat = torch.cat([pending[name].float().flatten() for name in names])
        pieces = self._total(flat).split([pending[name].numel() for name in names])
        return {name: piece.view_as(pending[name]) for name, piece in zip(names, pieces, strict=True)}

    def _total(self, values: Tensor) -> Tensor:
        """The sum over ranks; may overwrite `values`."""
        if self.session.fabric.world_size == 1:
            return values
        return self.session.fabric.all_reduce(values, reduce_op="sum")  # type: ignore[return-value]

    def _report(self, record: Run, *, finished: bool = False) -> Mapping[str, float]:
        """Tell the stage's notices; returns its values to log."""
        report = self.stage.report(self.step, self._total, finished=finished)
        for text in report.notices:
            self.session.broadcast("dvgen_notice", run=record, step=self.step, text=text)
        return report.values

    def _log(self, record: Run, values: dict[str, Tensor], budget: Budget) -> None:
        training = self.plan.training
        scalars = {name: float(value) for name, value in values.items()}
        clock = {
            "lr": self.players[0].optimizer.param_groups[0]["lr"],
            "seconds": self.seconds,
            "progress": budget.progress(self.step, self.seconds),
            "examples_per_second": training.batch * (self.step - record.step) / max(self.seconds - self.resumed_at, 1e-9),
        }
        self.session.broadcast("dvgen_step", run=record, step=self.step, values=scalars | dict(self._report(record)) | clock)
        self._status("running")

    def _save(self, *, finished: bool) -> Checkpoint:
        (weights, moments), *rivals = [player.state() for player in self.players]
        average, more = self.players[0].average, {}
        if average is not None:
            more[AVERAGE] = average.weights
        for name, own in zip(self._rivals(), rivals, strict=True):
            more |= {name: own[0], name + MOMENTS: own[1]}
        checkpoint = Checkpoint(self.step, self.seconds, finished, digest(self.plan.config), weights, moments, more)
        if self.session.fabric.is_global_zero:
            save_checkpoint(self.plan.folder, checkpoint)
        self.session.fabric.barrier()
        # a copy: averaged weights are put into the module when training has finished
        return evolve(checkpoint, model={name: tensor.clone() for name, tensor in weights.items()}) if average else checkpoint

    def _status(self, status: str, **more: Any) -> None:
        if self.session.fabric.is_global_zero:
            write_status(self.plan.folder, status, stage=self.stage.name, step=self.step, **more)


def _add(total: dict[str, Tensor], part: dict[str, Tensor], weight: float) -> None:
    for name, value in part.items():
        scaled = value.detach() * weight
        total[name] = total[name] + scaled if name in total else scaled
