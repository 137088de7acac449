"""The training loop of both stages. It owns the state: a step is taken whole or not at all."""

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from attrs import define, evolve, field
from torch import Tensor

from dvgen.data.order import Order
from dvgen.errors import IntegrityError, NonFiniteError, Stopped
from dvgen.experiment import digest
from dvgen.hookspecs import Run
from dvgen.seeding import fold
from dvgen.training.budget import Budget, check_division, learning_share, passes_point
from dvgen.training.checkpoint import AVERAGE, Checkpoint, check_config, load_newest, load_weights, save_checkpoint
from dvgen.training.folder import TRAINING_LOCK, locked, write_status
from dvgen.training.meter import Meter
from dvgen.training.player import Player, Rates, WeightAverage, synchronised
from dvgen.training.ranks import total, totals
from dvgen.training.session import Session
from dvgen.training.stage import Plan, Report, Stage, StepResult

MOMENTS = "-optimizer"
"""What the file of a rival's optimiser is called, after the rival's name."""

__all__ = ["Loop", "Plan", "Report", "Stage", "StepResult"]


@define
class Loop:
    """One stage under way, by the stage's model and its rival, if any; the meter holds what was spent."""

    session: Session
    stage: Stage
    plan: Plan
    players: list[Player] = field(factory=list)
    order: Order = field(init=False)
    meter: Meter = field(init=False)

    @property
    def step(self) -> int:
        """Finished steps."""
        return self.meter.steps

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
        self.meter = Meter(codes_per_step=stage.codes * training.batch, fabric=fabric)
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
        self.meter.resume(found.spent, found.costs)
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
        training, budget, meter = self.plan.training, Budget.of(self.plan.training), self.meter
        meter.start()
        while (progress := budget.progress(meter.spent)) < 1.0:
            with meter.step(self.stage.kind(self.step)):
                values = self._take_step(learning_share(training, self.step, progress))
            budget.check(meter.spent)
            point = passes_point(progress, budget.progress(meter.spent))
            due = self.step % training.log_every == 0 or self.step == 1
            if due or point:
                with meter.paused():
                    held_out = self._held_out(record) if point else {}
                    if due or held_out:
                        self._log(record, values | held_out, budget)
            stop = self.session.any_rank(self.session.stop.asked)
            if stop or self.step % training.checkpoint_every == 0:
                with meter.paused():
                    self._save(finished=False)
            if stop:
                where = f"step {self.step} of {record.name}"
                raise Stopped(f"stopped on request at {where}; `dvgen train --resume` or the same `dvgen compare` goes on")
        self._report(record, finished=True)
        checkpoint = self._save(finished=True)
        self._status("finished")
        self.session.broadcast("dvgen_run_finished", run=record, results={"step": self.step, **self._spent()})
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
            with synchronised(fabric, self.players, only_if=i == len(parts) - 1):
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
        stage.update(totals(fabric, pending))
        return values | norms

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

    def _report(self, record: Run, *, finished: bool = False) -> Mapping[str, float]:
        """Tell the stage's notices; returns its values to log."""
        report = self.stage.report(self.step, partial(total, self.session.fabric), finished=finished)
        for text in report.notices:
            self.session.broadcast("dvgen_notice", run=record, step=self.step, text=text)
        return report.values

    def _held_out(self, record: Run) -> dict[str, Tensor]:
        """The stage's likelihood of held-out codes with the weights that evaluation would use; empty when it has none.

        A value that is no likelihood is told and left out: it is evaluation that judges, and training goes on.
        """
        average, training = self.players[0].average, self.plan.training
        batch = training.batch // (self.session.fabric.world_size * training.micro_batches)
        with average.applied(self.stage.module) if average else nullcontext():
            try:
                found = self.stage.held_out(batch)
            except (NonFiniteError, IntegrityError) as error:
                self.session.broadcast("dvgen_notice", run=record, step=self.step, text=f"held-out codes: {error}")
                return {}
        return {} if found is None else {"validation": torch.tensor(found, dtype=torch.float64)}

    def _spent(self) -> dict[str, float]:
        spent = self.meter.spent
        return {"codes": spent.codes, "flops": spent.flops, "seconds": spent.seconds}

    def _log(self, record: Run, values: dict[str, Tensor], budget: Budget) -> None:
        clock = {
            "lr": self.players[0].optimizer.param_groups[0]["lr"],
            "progress": budget.progress(self.meter.spent),
            "examples_per_second": self.plan.training.batch * self.meter.steps_per_second,
        }
        told = {name: float(value) for name, value in values.items()} | dict(self._report(record))
        self.session.broadcast("dvgen_step", run=record, step=self.step, values=told | clock | self._spent())
        self._status("running")

    def _save(self, *, finished: bool) -> Checkpoint:
        (weights, moments), *rivals = [player.state() for player in self.players]
        average, more = self.players[0].average, {}
        if average is not None:
            more[AVERAGE] = average.weights
        for name, own in zip(self._rivals(), rivals, strict=True):
            more |= {name: own[0], name + MOMENTS: own[1]}
        spent, costs, config = self.meter.spent, dict(self.meter.costs), digest(self.plan.config)
        counted = partial(Checkpoint, codes=spent.codes, flops=spent.flops, costs=costs)
        checkpoint = counted(spent.steps, spent.seconds, finished, config, weights, moments, more)
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
