"""The training loop of both stages. It owns the state: a step is taken whole or not at all."""

from contextlib import ExitStack, nullcontext
from functools import partial

import torch
from attrs import define, evolve, field
from torch import Tensor

from dvgen.data.order import Order
from dvgen.errors import NonFiniteError, Stopped
from dvgen.experiment import digest
from dvgen.hookspecs import Run
from dvgen.interfaces.looking import unseen
from dvgen.seeding import fold
from dvgen.training.budget import Budget, check_division, learning_share, passes_point
from dvgen.training.checkpoint import AVERAGE, Checkpoint, check_config, load_newest, load_weights, save_checkpoint
from dvgen.training.compilation import Compilation
from dvgen.training.finiteness import Finiteness
from dvgen.training.folder import TRAINING_LOCK, locked
from dvgen.training.journal import Journal
from dvgen.training.meter import Meter
from dvgen.training.player import Player, players_of, synchronised
from dvgen.training.ranks import totals
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
    finiteness: Finiteness = field(init=False)
    journal: Journal = field(init=False)

    @property
    def step(self) -> int:
        """Finished steps."""
        return self.meter.steps

    @property
    def _late(self) -> bool:
        """Whether the host runs ahead of the device, so that a look at a value would cost speed."""
        return self.session.fabric.device.type != "cpu"

    def run(self) -> Checkpoint:
        """Train until the budget is spent, resuming from the newest checkpoint that verifies; idempotent.

        The stage's module is left with the weights that evaluation uses: averaged ones where they are kept.
        Raises Stopped (after saving) on request, and NonFiniteError on a NaN or infinity: nothing of that step is saved,
        and on a CPU nothing of it is applied.
        """
        check_division(self.plan.training, self.session.fabric.world_size)
        with locked(self.plan.folder, self.session.fabric.is_global_zero, TRAINING_LOCK):
            finished = self._run()
        if AVERAGE in finished.more:
            load_weights(self.stage.module, finished.evaluated, self.plan.folder)
        return finished

    def _run(self) -> Checkpoint:
        folder, config = self.plan.folder, self.plan.config
        found = load_newest(folder)
        if found is not None:
            check_config(found, digest(config), folder)
        self._prepare(found)
        if found is not None and found.finished:
            return found
        run = Run(folder=folder, stage=self.stage.name, name=folder.name, step=self.step, config=config)
        self.journal = Journal(self.session, self.stage, run)
        self.journal.status("running", self.step)
        self.journal.started()
        try:
            return self._train()
        except (Stopped, KeyboardInterrupt):
            self.journal.status("stopped", self.step)
            raise
        except BaseException as error:
            self.journal.status("failed", self.step, error=f"{type(error).__name__}: {error}")
            raise

    def _prepare(self, found: Checkpoint | None) -> None:
        fabric, training, stage = self.session.fabric, self.plan.training, self.stage
        self.order = Order(stage.size, training.batch, self.plan.seed)
        compilation = Compilation(stage.compiled()) if self.session.compile else None
        self.meter = Meter(codes_per_step=stage.codes * training.batch, fabric=fabric, compilation=compilation)
        hint = f"try a lower lr{'' if stage.rival is None else ' of the one that is not finite'}, or longer warmup"
        self.finiteness = Finiteness(fabric, stage.name, hint, self._late)
        stage.module.to(fabric.device).train()
        if found is None:
            torch.manual_seed(fold(self.plan.seed, stage.name, "initialise"))
            stage.initialise()
        self.players = players_of(fabric, stage, training)
        if found is not None:
            self._load(found)

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

    def _train(self) -> Checkpoint:
        with ExitStack() as under_way:
            under_way.callback(self.stage.close)
            if self.meter.compilation:
                under_way.enter_context(self.meter.compilation.active())
            self._take_steps()
        self.journal.report(self.step, finished=True)
        if seconds := self.meter.compile_seconds:
            self.journal.notice(self.step, f"compiling took {seconds:.0f} s, which are not counted as training")
        checkpoint = self._save(finished=True)
        self.journal.status("finished", self.step)
        self.journal.finished({"step": self.step, **self.meter.told})
        return checkpoint

    def _take_steps(self) -> None:
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
                    self.finiteness.settle()
                    held_out = self._held_out() if point else {}
                    if due or held_out:
                        self._log(values | held_out, budget)
            stop = self.session.any_rank(self.session.stop.asked)
            if stop or self.step % training.checkpoint_every == 0:
                with meter.paused():
                    self._save(finished=False)
            if stop:
                raise Stopped(
                    f"stopped on request at step {self.step} of {self.plan.folder.name}; "
                    "`dvgen train --resume` or the same `dvgen compare` goes on"
                )

    def _take_step(self, share: float) -> dict[str, Tensor]:
        """One optimiser step over all micro-batches and ranks.

        NonFiniteError when it cannot be taken: no weight or codebook has changed then, but where the host runs ahead of the
        device, by the step before, which was not finite.
        """
        fabric, stage = self.session.fabric, self.stage
        for player in self.players:
            player.set_rate(share)
        torch.manual_seed(fold(self.plan.seed, stage.name, self.step, fabric.global_rank))
        stage.schedule(self.step)
        pending: dict[str, Tensor] = {}
        values: dict[str, Tensor] = {}
        rival_loss: dict[str, Tensor] = {}
        moved = self.players
        parts = self._parts(self.step)
        for i, part in enumerate(parts):
            last = i == len(parts) - 1
            stage.announce(self._parts(self.step + 1)[0] if last else parts[i + 1])
            with synchronised(fabric, self.players, only_if=last):
                result = self._compute(part)
                losses = [loss for loss in (result.loss, result.rival_loss) if loss is not None]
                for loss in losses:
                    fabric.backward(loss / len(parts))
            moved = self.players[: len(losses)]
            _add(pending, result.pending, 1.0)
            _add(values, {"loss": result.loss.detach(), **result.values}, 1.0 / len(parts))
            if result.rival_loss is not None:
                _add(rival_loss, {"rival_loss": result.rival_loss}, 1.0 / len(parts))
        clipped = (player.clip(fabric, self.plan.training.clip) for player in moved)
        norms = dict(zip(("gradient_norm", "rival_gradient_norm"), clipped, strict=False))
        self.finiteness.check(self.step, {"loss": values["loss"], **norms, **rival_loss})
        for player in moved:
            player.step(self.step + 1)
        stage.update(totals(fabric, pending))
        return values | norms

    def _parts(self, step: int) -> tuple[Tensor, ...]:
        """The indices of this rank's micro-batches at a step."""
        fabric = self.session.fabric
        return self.order.batch(step, fabric.global_rank, fabric.world_size).chunk(self.plan.training.micro_batches)

    def _compute(self, indices: Tensor) -> StepResult:
        try:
            with unseen() if self._late else nullcontext():
                return self.stage.compute([player.wrapped for player in self.players], indices, self.step)
        except NonFiniteError as error:
            self.finiteness.settle()  # what this step met may be what the step before has left
            raise NonFiniteError(f"{self.stage.name}, step {self.step}: {error}") from error

    def _held_out(self) -> dict[str, Tensor]:
        """The stage's likelihood of held-out codes with the weights that evaluation would use; empty when it has none."""
        average, training, compilation = self.players[0].average, self.plan.training, self.meter.compilation
        batch = training.batch // (self.session.fabric.world_size * training.micro_batches)
        with (
            average.applied(self.stage.module) if average else nullcontext(),
            compilation.eagerly() if compilation else nullcontext(),
        ):
            found = self.journal.held_out(self.step, batch)
        return {} if found is None else {"validation": torch.tensor(found, dtype=torch.float64)}

    def _log(self, values: dict[str, Tensor], budget: Budget) -> None:
        clock = {
            "lr": self.players[0].optimizer.param_groups[0]["lr"],
            "progress": budget.progress(self.meter.spent),
            "examples_per_second": self.plan.training.batch * self.meter.steps_per_second,
        }
        self.journal.log(self.step, values, clock | self.meter.told)

    def _save(self, *, finished: bool) -> Checkpoint:
        self.finiteness.settle()
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


def _add(total: dict[str, Tensor], part: dict[str, Tensor], weight: float) -> None:
    for name, value in part.items():
        scaled = value.detach() * weight
        total[name] = total[name] + scaled if name in total else scaled
