"""Small runs for tests: a session on the CPU, the two stages on a toy data set, and observers of their events."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor
from toy_components import NoiseDataset

from dvgen import hookimpl
from dvgen.assembly import resolved
from dvgen.cli import main
from dvgen.data.token_cache import TokenBatch, TokenCache, TokenIdentity, write_tokens
from dvgen.discovery import discover
from dvgen.experiment import Experiment, Training, experiment_from
from dvgen.hookspecs import Run
from dvgen.interfaces.codes import Level
from dvgen.training.checkpoint import load_checkpoint, steps
from dvgen.training.interrupt import StopRequest
from dvgen.training.loop import Loop, Plan, Stage
from dvgen.training.prior import PriorStage, new_code_model
from dvgen.training.session import Hardware, Session, open_session
from dvgen.training.tokenizer import TokenizerStage, make_objective, new_tokenizer

STAGES = ["tokenizer", "prior"]
SMALL = {"channels": 4, "residual_channels": 2, "residual_blocks": 1}
TRAINING: dict[str, Any] = {
    "budget": "steps:6",
    "batch": 8,
    "lr": 1e-2,
    "warmup": 2,
    "log_every": 1,
    "checkpoint_every": 2,
}


def session(**hardware: Any) -> Session:
    """A session of one process on the CPU."""
    return open_session(discover(), StopRequest(), Hardware(accelerator="cpu", **hardware))


class Watch:
    """An observer: (event, step) in order, and something to do at a step."""

    def __init__(self, at: int = -1, act: Callable[[], None] = lambda: None) -> None:
        self.at, self.act = at, act
        self.seen: list[tuple[str, int]] = []
        self.values: list[Mapping[str, float]] = []

    @hookimpl
    def dvgen_run_started(self, run: Run) -> None:
        self.seen.append(("started", run.step))

    @hookimpl
    def dvgen_step(self, run: Run, step: int, values: Mapping[str, float]) -> None:
        self.seen.append(("step", step))
        self.values.append(dict(values))
        if step == self.at:
            self.act()

    @hookimpl
    def dvgen_run_finished(self, run: Run, results: Mapping[str, float]) -> None:
        self.seen.append(("finished", int(results["step"])))


def watched(at: int = -1) -> tuple[Session, Watch]:
    """A session with an observer; it asks to stop at step `at`."""
    opened = session()
    watch = Watch(at, lambda: setattr(opened.stop, "asked", True))
    opened.plugins.manager.register(watch, name="watch")
    return opened, watch


def experiment(opened: Session, quantizer: str = "ema", **table: Any) -> Experiment:
    """A tiny experiment on signals of (3, 8, 8)."""
    parts = {
        "encoder": {"use": "vqvae", "downsample": 2, **SMALL},
        "decoder": {"use": "vqvae", "downsample": 2, **SMALL},
        "quantizer": {"use": quantizer, "num_codes": 4, "dim": 3},
        "prior": {"use": "gpt", "layers": 1, "dim": 8, "heads": 2, "dropout": 0.1},
    }
    return resolved(opened.registry, experiment_from(parts | table))


def toy_cache(folder: Path) -> TokenCache:
    """Random codes of one level (2, 2), 24 for training."""
    level = Level("codes", (2, 2), 4)
    sizes = {"train": 24, "validation": 4, "test": 4}
    identity = TokenIdentity(tokenizer="t", data="d", levels=(level,), num_classes=2, splits=sizes)
    if not folder.exists():
        torch.manual_seed(0)
        write_tokens(folder, {name: [_tokens(level, n)] for name, n in sizes.items()}, identity)
    return TokenCache.open(folder, identity)


def _tokens(level: Level, n: int) -> TokenBatch:
    return TokenBatch((torch.randint(0, level.num_codes, (n, *level.grid)),), torch.arange(n) % 2, torch.arange(n))


def stage(opened: Session, name: str, root: Path, chosen: Experiment, *, labels: bool = False) -> Stage:
    """A new stage on toy data, its first weights decided by the experiment's seed."""
    if name == "tokenizer":
        dataset = NoiseDataset()
        tokenizer = new_tokenizer(opened.registry, chosen, dataset.shape)
        objective = make_objective(opened, chosen, tokenizer)
        return TokenizerStage(tokenizer, objective, dataset, torch.arange(len(dataset)), seed=chosen.seed)
    cache = toy_cache(root / "tokens")
    chosen = attrs.evolve(chosen, labels=labels)
    model = new_code_model(opened.registry, chosen, cache)
    return PriorStage(model, cache, labels=labels, seed=chosen.seed, autocast=opened.fabric.autocast)


def loop(opened: Session, name: str, folder: Path, *, seed: int = 0, quantizer: str = "ema", **training: Any) -> Loop:
    """A loop over a new toy stage in `folder`; `training` overrides TRAINING."""
    chosen = experiment(opened, quantizer, seed=seed)
    plan = Plan(folder, Training(**(TRAINING | training)), seed, {})
    return Loop(opened, stage(opened, name, folder.parent, chosen), plan)


def state(done: Loop) -> dict[str, Tensor]:
    """Copies of every weight, buffer and optimiser tensor of a loop."""
    owned = [(i, own) for i, player in enumerate(done.players) for own in player.state()]
    tensors = {f"{i}.{name}": tensor for i, own in owned for name, tensor in own.items()}
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def saved(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a finished run's checkpoint, whatever its config."""
    finished = load_checkpoint(steps(folder)[0])
    assert finished.finished
    more = {f"{file}/{name}": tensor for file, own in finished.more.items() for name, tensor in own.items()}
    return {**finished.model, **finished.optimizer, **more}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


TINY = (
    "data.shapes=2", "data.colours=2", "data.positions=2",
    "encoder.channels=8", "encoder.residual_channels=4", "encoder.residual_blocks=1",
    "decoder.channels=8", "decoder.residual_channels=4", "decoder.residual_blocks=1",
    "encoder.downsample=8", "decoder.downsample=8",
    "quantizer.num_codes=8", "quantizer.dim=4",
    "train.tokenizer.batch=8", "train.prior.batch=8",
    "evaluate.samples=6", "evaluate.batch=4", "evaluate.grid=4", "evaluate.features=rand", "evaluate.maps=0",
)  # fmt: skip
"""An experiment of 48 images with 16 codes each, whose stages take milliseconds a step."""
TINY_GPT = ("prior.dim=8", "prior.layers=1", "prior.heads=2")


def settings(*assignments: str, steps: tuple[int, int] = (3, 3)) -> list[str]:
    """Options of the command line for a tiny experiment, `assignments` last."""
    sets = [part for text in (*TINY, *assignments) for part in ("--set", text)]
    device = ("--accelerator", "cpu", "--precision", "32-true")  # on every machine the same
    return [*sets, *device, "--tokenizer-budget", f"steps:{steps[0]}", "--budget", f"steps:{steps[1]}"]


def dvgen(*arguments: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)
