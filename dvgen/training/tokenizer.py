"""Stage one: train a tokenizer on signals."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

import torch
from attrs import frozen
from torch import Tensor, nn

from dvgen.assembly import build
from dvgen.data.order import permutation
from dvgen.data.prefetch import Ahead
from dvgen.errors import ConfigError, ShapeError
from dvgen.experiment import Experiment, LossChoice, decisive, digest, table_of
from dvgen.interfaces.data import Dataset
from dvgen.interfaces.loss import Loss
from dvgen.interfaces.model import Model
from dvgen.registry import Registry
from dvgen.seeding import fold
from dvgen.tokenizer import Tokenized, Tokenizer, assemble_tokenizer
from dvgen.training.adversarial import Game
from dvgen.training.checkpoint import load_finished, load_weights
from dvgen.training.codebook_doctor import CodebookDoctor, finiteness
from dvgen.training.game_doctor import GameDoctor
from dvgen.training.loop import Loop, Plan, Report, Stage, StepResult
from dvgen.training.session import Session
from dvgen.training.transfer import pinned, to_device

SIGNALS = "signals"
INITIAL_SIGNALS = 512
"""Signals whose features initialise the codebooks: enough for 8x8 grids to give 64 rows for each of 512 codes."""


@final
class ReconstructionObjective(nn.Module):
    """The weighted sum of an experiment's losses."""

    def __init__(self, registry: Registry, choices: Sequence[LossChoice]) -> None:
        super().__init__()
        self.terms = nn.ModuleList(build(registry, "loss", choice) for choice in choices)
        self.names = [choice.use for choice in choices]
        self.weights = [choice.weight for choice in choices]

    def forward(self, result: Tokenized, signals: Tensor) -> dict[str, Tensor]:
        """Weighted scalars by name, from what the tokenizer made of signals (b, channels, *size)."""
        terms: list[Loss] = list(self.terms)  # type: ignore[arg-type]
        return {
            name: weight * term(result.reconstructed if term.reads == SIGNALS else result.output, signals)
            for name, term, weight in zip(self.names, terms, self.weights, strict=True)
        }

    def check(self, makes: str) -> None:
        """Raise ConfigError for a loss that reads another distribution than the decoder makes."""
        for name, term in zip(self.names, self.terms, strict=True):
            if term.reads not in (SIGNALS, makes):
                raise ConfigError(
                    f"loss: {name!r} reads the parameters of {term.reads!r}, but this decoder makes {makes!r}; "
                    "choose a decoder that makes them, or another loss"
                )


@frozen
class Objective:
    """What stage one minimises beside the quantizers' own losses: reconstruction losses, and a game or none."""

    reconstruction: ReconstructionObjective
    game: Game | None


@final
class TokenizerStage(Stage):
    """What the loop needs to train a tokenizer, against a discriminator if there is a game."""

    name = "tokenizer"

    def __init__(self, tokenizer: Tokenizer, objective: Objective, dataset: Dataset, indices: Tensor, *, seed: int) -> None:
        self.module = self.tokenizer = tokenizer
        self.objective = objective
        self.dataset = dataset
        self.indices = indices
        self.size = len(indices)
        self.codes = sum(level.length for level in tokenizer.levels)
        self.seed = seed
        self.doctor = CodebookDoctor(tokenizer)
        game = objective.game
        self.rival = None if game is None else game.rival()
        self.game_doctor = None if game is None else GameDoctor(game.settings.start)
        self._ahead: Ahead[Tensor] | None = None
        self._announced: Tensor | None = None

    def groups(self) -> list[dict[str, Any]]:
        """The groups of every component."""
        parts = [*self._analysis(), self.tokenizer.decoder]
        return [group for part in parts if isinstance(part, Model) for group in part.parameter_groups() if group["params"]]

    def compiled(self) -> Sequence[nn.Module]:
        """The whole tokenizer; in a game without its decoder, through which gradients are taken one by one.

        Those of the adaptive weight end at the last layer, which a compiled decoder would go through altogether.
        """
        game = self.objective.game
        return [self.tokenizer] if game is None else [*self._analysis(), game.judge]

    def announce(self, indices: Tensor) -> None:
        """To be loaded while the coming `compute` computes."""
        self._announced = indices

    def close(self) -> None:
        """End the thread that loads."""
        if self._ahead is not None:
            self._ahead.close()
        self._ahead = self._announced = None

    def initialise(self) -> None:
        """Codebooks from the features of random training signals, the same ones on every rank."""
        chosen = permutation(self.size, fold(self.seed, "initial signals"))[:INITIAL_SIGNALS]
        self.tokenizer.initialise(self._signals(chosen))

    def schedule(self, step: int) -> None:
        """Temperatures and the like."""
        self.tokenizer.schedule(step)

    def kind(self, step: int) -> str:
        """By which players of the game take part."""
        return "step" if self.objective.game is None else self.objective.game.kind(step)

    def compute(self, modules: Sequence[nn.Module], indices: Tensor, step: int) -> StepResult:
        """Reconstruction losses, quantizer losses and the game on the signals at these positions of the training split.

        The loss is NaN when a quantizer says that a value was not finite: compiled code cannot raise, and the loop stops.
        """
        signals = self._next_signals(indices)
        result: Tokenized = modules[0](signals)
        reconstruction = self.objective.reconstruction(result, signals)
        losses = reconstruction | result.losses
        values = {**{k: v.detach() for k, v in losses.items()}, **self.doctor.observe(result.stats)}
        loss = torch.stack(list(losses.values())).sum()
        for finite in finiteness(result.stats).values():
            loss = torch.where(finite > 0, loss, torch.nan)
        if self.objective.game is None:
            return StepResult(loss, values, result.pending)
        total = torch.stack(list(reconstruction.values())).sum()
        move = self.objective.game.generator(total, result.reconstructed, step)
        critic = self.objective.game.critic(modules[1], signals, result.reconstructed, step)
        played = (move.values if move else {}) | (critic.values if critic else {})
        self.game_doctor.observe(played | {"reconstruction": total})  # type: ignore[union-attr]
        return StepResult(loss + move.loss if move else loss, values | played, result.pending, critic.loss if critic else None)

    def update(self, pending: dict[str, Tensor]) -> None:
        """Codebooks by moving averages."""
        self.tokenizer.update(pending)

    def report(self, step: int, total: Callable[[Tensor], Tensor], *, finished: bool) -> Report:
        """How the codebooks and the game do."""
        values, notices = self.doctor.report(step, total, finished=finished)
        if self.game_doctor is not None:
            notices = [*notices, *self.game_doctor.report(step, total, finished=finished)]
        return Report(values, notices)

    def _analysis(self) -> list[nn.Module]:
        return [self.tokenizer.encoder, *self.tokenizer.quantizers]

    def _next_signals(self, positions: Tensor) -> Tensor:
        """The signals at these positions; those that were announced are begun to be loaded when these have been."""
        self._ahead = self._ahead or Ahead(self._loaded)
        loaded = self._ahead.take(positions)
        if self._announced is not None:
            self._ahead.announce(self._announced)
            self._announced = None
        return to_device(loaded, self._device())

    def _signals(self, positions: Tensor) -> Tensor:
        return to_device(self._loaded(positions), self._device())

    def _loaded(self, positions: Tensor) -> Tensor:
        return pinned(self.dataset.signals(self.indices[positions].tolist()), self._device())

    def _device(self) -> torch.device:
        return next(self.tokenizer.parameters()).device


def tokenizer_config(experiment: Experiment) -> dict[str, Any]:
    """The part of a resolved experiment that decides a tokenizer; two runs with equal parts train the same one."""
    table = table_of(experiment)
    chosen = {name: table[name] for name in ("schema", "seed", "data", "encoder", "quantizer", "decoder", "loss")}
    chosen |= {"adversarial": table["adversarial"]} if "adversarial" in table else {}
    return chosen | {"train": {"precision": table["train"]["precision"], "tokenizer": decisive(table["train"]["tokenizer"])}}


def new_tokenizer(registry: Registry, experiment: Experiment, shape: tuple[int, ...]) -> Tokenizer:
    """An untrained tokenizer; its first weights are a pure function of the experiment's seed."""
    torch.manual_seed(fold(experiment.seed, "tokenizer", "weights"))
    return assemble_tokenizer(registry, experiment, shape)


def make_objective(session: Session, experiment: Experiment, tokenizer: Tokenizer) -> Objective:
    """The losses of an experiment, and its game; a discriminator's first weights are a pure function of the seed.

    Raises ConfigError for losses that do not fit the decoder, DataError when weights of a loss are missing.
    """
    registry, game = session.registry, experiment.adversarial
    reconstruction = ReconstructionObjective(registry, experiment.loss).to(session.fabric.device)
    reconstruction.check(tokenizer.decoder.makes)
    if game is None:
        return Objective(reconstruction, None)
    torch.manual_seed(fold(experiment.seed, "discriminator", "weights"))
    discriminator = build(registry, "discriminator", game.discriminator, channels=tokenizer.shape[0])
    loss = build(registry, "adversarial-loss", game.loss)
    autocast = session.fabric.autocast
    last_layer = tokenizer.decoder.last_layer
    return Objective(reconstruction, Game(game, discriminator, loss, last_layer=last_layer, autocast=autocast))


@torch.no_grad()
def check_objective(session: Session, experiment: Experiment, tokenizer: Tokenizer) -> None:
    """Build the losses and the game once and try them on signals of the right shape; raises as `make_objective` does."""
    objective = make_objective(session, experiment, tokenizer)
    zeros = torch.zeros(1, *tokenizer.shape, device=session.fabric.device)
    try:
        objective.reconstruction(tokenizer.to(zeros.device)(zeros), zeros)
        if objective.game is not None:
            objective.game.discriminator.to(zeros.device).eval()(zeros)
    except ShapeError as error:
        raise ConfigError(f"signals of shape {tokenizer.shape}: {error}") from None


def train_tokenizer(session: Session, experiment: Experiment, dataset: Dataset, indices: Tensor, folder: Path) -> Tokenizer:
    """Train on the signals at `indices`, or go on, or return what is finished, in evaluation mode; see `check_precision`."""
    session.check_precision(experiment)
    tokenizer = new_tokenizer(session.registry, experiment, dataset.shape)
    objective = make_objective(session, experiment, tokenizer)
    stage = TokenizerStage(tokenizer, objective, dataset, indices, seed=experiment.seed)
    plan = Plan(folder, experiment.train.tokenizer, experiment.seed, tokenizer_config(experiment))
    Loop(session, stage, plan).run()
    return tokenizer.eval()


def load_tokenizer(session: Session, experiment: Experiment, shape: tuple[int, ...], folder: Path) -> Tokenizer:
    """The finished tokenizer of a run folder, in evaluation mode; raises IntegrityError when it is damaged or unfinished."""
    tokenizer = new_tokenizer(session.registry, experiment, shape)
    load_weights(tokenizer, load_finished(folder, digest(tokenizer_config(experiment))).evaluated, folder)
    return tokenizer.to(session.fabric.device).eval()


def tokenizer_name(experiment: Experiment) -> str:
    """A folder name for a tokenizer: its quantizer, and the hash of what decides it."""
    return f"{experiment.encoder.use}-{experiment.quantizer_label}-{digest(tokenizer_config(experiment))[:8]}"
