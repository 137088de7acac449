"""Stage two: train the priors on extracted codes."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, final

import torch
from torch import Generator, Tensor, nn

from dvgen.code_model import CodeModel, assemble_code_model
from dvgen.data.order import permutation
from dvgen.data.token_cache import TokenCache
from dvgen.evaluation.nll import per_image_nats
from dvgen.experiment import Experiment, decisive, digest, table_of
from dvgen.interfaces.model import Model
from dvgen.interfaces.prior import evaluating
from dvgen.registry import Registry
from dvgen.seeding import fold
from dvgen.training.checkpoint import load_finished, load_weights
from dvgen.training.loop import Loop, Plan, Stage, StepResult
from dvgen.training.session import Session
from dvgen.training.transfer import to_device

HELD_OUT, HELD_OUT_BOUND = 256, 64
"""Validation images that are looked at in training: about a fifteenth of the cost of training 800 batches of 32, over all
points. Fewer where the likelihood is a bound, for a bound takes many evaluations."""


@final
class PriorStage(Stage):
    """What the loop needs to train a code model.

    autocast: the precision of training. Fabric applies it to `forward`, and on a single device to no other method.
    """

    name = "prior"
    forward_methods = ("loss",)

    def __init__(
        self,
        model: CodeModel,
        cache: TokenCache,
        *,
        labels: bool,
        seed: int,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.module = self.model = model
        self.cache = cache
        self.labels = labels
        self.seed = seed
        self.autocast = autocast
        self.size = cache.size("train")
        self.codes = sum(level.length for level in cache.levels)

    def groups(self) -> list[dict[str, Any]]:
        """The groups of every prior."""
        return [g for prior in self.model.priors if isinstance(prior, Model) for g in prior.parameter_groups() if g["params"]]

    def compute(self, modules: Sequence[nn.Module], indices: Tensor, step: int) -> StepResult:
        """The priors' losses on the codes at these positions of the training split."""
        device = next(self.model.parameters()).device
        codes = tuple(to_device(code, device) for code in self.cache.codes("train", indices))
        labels = to_device(self.cache.labels("train", indices), device) if self.labels else None
        noise = Generator().manual_seed(fold(self.seed, "noise", step, indices.tolist()[0]))
        with self.autocast():
            return StepResult(modules[0].loss(codes, labels, noise), {}, {})  # type: ignore[operator]

    def compiled(self) -> Sequence[nn.Module]:
        """Each prior: what is around them is no computation."""
        return list(self.model.priors)

    def held_out(self, batch: int) -> float | None:
        """On a few images of the validation split, the same ones at every point; None when there are none.

        A curve to see over-fitting by, not a row of a table: but for the last point, the learning rate has not fallen yet
        (see `Budget`).
        """
        size = min(HELD_OUT if self.model.exact else HELD_OUT_BOUND, self.cache.identity.splits.get("validation", 0))
        if not size:
            return None
        chosen = permutation(self.cache.size("validation"), fold(0, "held-out"))[:size]
        device = next(self.model.parameters()).device
        codes = tuple(code.to(device) for code in self.cache.codes("validation", chosen))
        labels = self.cache.labels("validation", chosen).to(device) if self.labels else None
        with evaluating(self.model):
            return float(per_image_nats(self.model, codes, labels, batch).sum()) / (size * self.codes)


def prior_seed(experiment: Experiment) -> int:
    """The seed of stage two: each repetition on the same codes has its own."""
    return fold(experiment.seed, "repeat", experiment.repeat)


def prior_config(experiment: Experiment, tokens: str) -> dict[str, Any]:
    """The part of a resolved experiment that decides its priors, given the identity of the codes."""
    table = table_of(experiment)
    chosen = {name: table[name] for name in ("schema", "seed", "repeat", "labels", "prior")}
    return chosen | {
        "tokens": tokens,
        "train": {"precision": table["train"]["precision"], "prior": decisive(table["train"]["prior"])},
    }


def new_code_model(registry: Registry, experiment: Experiment, cache: TokenCache) -> CodeModel:
    """An untrained code model for the levels of a token cache; its first weights are a pure function of the seed."""
    torch.manual_seed(fold(prior_seed(experiment), "prior", "weights"))
    return assemble_code_model(registry, experiment, cache.levels, cache.num_classes if experiment.labels else 0)


def train_prior(session: Session, experiment: Experiment, cache: TokenCache, folder: Path) -> CodeModel:
    """Train on the cache's training split, or go on, or return what is finished, in evaluation mode; see `check_precision`."""
    session.check_precision(experiment)
    model = new_code_model(session.registry, experiment, cache)
    seed = prior_seed(experiment)
    stage = PriorStage(model, cache, labels=experiment.labels, seed=seed, autocast=session.fabric.autocast)
    plan = Plan(folder, experiment.train.prior, seed, prior_config(experiment, cache.identity.hash))
    Loop(session, stage, plan).run()
    return model.eval()


def load_prior(session: Session, experiment: Experiment, cache: TokenCache, folder: Path) -> CodeModel:
    """The finished code model of a run folder, in evaluation mode; raises IntegrityError when damaged or unfinished."""
    model = new_code_model(session.registry, experiment, cache)
    load_weights(model, load_finished(folder, digest(prior_config(experiment, cache.identity.hash))).evaluated, folder)
    return model.to(session.fabric.device).eval()


def prior_name(experiment: Experiment, tokens: str) -> str:
    """A folder name for a prior run: what it is, its repetition, and the hash of what decides it."""
    return f"{experiment.prior_label}-r{experiment.repeat}-{digest(prior_config(experiment, tokens))[:8]}"
