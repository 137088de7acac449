"""A model under training: the module as Fabric wraps it, its optimiser, and the moving average of its weights."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from attrs import define, frozen
from lightning_fabric import Fabric
from torch import Tensor, nn

from dvgen.experiment import Training
from dvgen.training.checkpoint import load_optimizer, load_weights, optimizer_tensors
from dvgen.training.stage import Stage


@frozen(kw_only=True)
class Rates:
    """AdamW's settings for one player; `lr` is the highest rate of its schedule."""

    lr: float
    betas: tuple[float, float]
    weight_decay: float


@define
class Player:
    """One of the models of a stage. `module` is what the stage made, `wrapped` what must be called in training."""

    module: nn.Module
    wrapped: Any
    optimizer: Any
    rates: Rates
    average: "WeightAverage | None" = None

    @classmethod
    def set_up(cls, fabric: Fabric, module: nn.Module, groups: Sequence[dict[str, Any]], rates: Rates) -> Self:
        """Move a module to Fabric's device, give it an optimiser for its parameter groups, and wrap both."""
        moved = module.to(fabric.device)
        moved.train()
        fused = all(_has_fused(parameter) for group in groups for parameter in group["params"])
        optimizer = torch.optim.AdamW(
            groups, lr=rates.lr, betas=rates.betas, weight_decay=rates.weight_decay, fused=fused, foreach=not fused
        )
        wrapped, wrapped_optimizer = fabric.setup(moved, optimizer)
        return cls(moved, wrapped, wrapped_optimizer, rates)

    def set_rate(self, share: float) -> None:
        """Set the learning rate to this share of its highest."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rates.lr * share

    def clip(self, fabric: Fabric, norm: float) -> Tensor:
        """Shorten the gradient to this norm; returns the norm it had."""
        return fabric.clip_gradients(self.wrapped, self.optimizer, max_norm=norm, error_if_nonfinite=False)  # type: ignore[return-value]

    def step(self, number: int) -> None:
        """Take the optimiser's step, the `number`-th, counted from 1."""
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.follow(self.module, number)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Weights and buffers, and the optimiser's state."""
        return self.module.state_dict(), optimizer_tensors(self.optimizer.optimizer)

    def load(self, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor], folder: Path) -> None:
        """Put `state` back; raises IntegrityError when it is another model's."""
        load_weights(self.module, weights, folder)
        load_optimizer(self.optimizer.optimizer, moments)


def players_of(fabric: Fabric, stage: Stage, training: Training) -> list[Player]:
    """The stage's model, with its moving average if one is kept, and the rival's, if there is one."""
    rates = Rates(lr=training.lr, betas=training.betas, weight_decay=training.weight_decay)
    players = [Player.set_up(fabric, stage.module, stage.groups(), rates)]
    for method in stage.forward_methods:
        players[0].wrapped.mark_forward_method(method)
    if training.ema:
        players[0].average = WeightAverage.of(stage.module, training.ema)
    if stage.rival is not None:
        own = Rates(lr=stage.rival.lr or training.lr, betas=stage.rival.betas, weight_decay=0.0)
        players.append(Player.set_up(fabric, stage.rival.module, stage.rival.groups, own))
    return players


@contextmanager
def synchronised(fabric: Fabric, players: Iterable[Player], *, only_if: bool) -> Iterator[None]:
    """Gradients of the last micro-batch alone are summed over ranks, with what the others added to them."""
    with ExitStack() as stack:
        for player in players:
            stack.enter_context(fabric.no_backward_sync(player.wrapped, enabled=not only_if))
        yield


@define
class WeightAverage:
    """The moving average of a module's parameters, by name: w_1, then decay * average + (1 - decay) * w_t, debiased.

    It is what an average that begins at zero is after division by 1 - decay^t (Kingma & Ba, 2015, section 3), written so
    that nothing has to be divided when it is read: average += (1 - decay) / (1 - decay^t) * (w_t - average).
    """

    decay: float
    weights: dict[str, Tensor]

    @classmethod
    def of(cls, module: nn.Module, decay: float) -> Self:
        """Before the first step: the weights as they are, which the first step replaces altogether."""
        return cls(decay, {name: weight.detach().clone() for name, weight in _named(module)})

    @torch.no_grad()
    def follow(self, module: nn.Module, number: int) -> None:
        """Take in the weights after step `number`, counted from 1."""
        share = (1 - self.decay) / (1 - self.decay**number)
        weights = [weight.detach() for _, weight in _named(module)]
        torch._foreach_lerp_(list(self.weights.values()), weights, share)

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """The averaged weights in the module for a block of code; afterwards its own are back, bit for bit."""
        own = [(weight, weight.detach().clone()) for weight in module.parameters()]
        with torch.no_grad():
            for name, weight in _named(module):
                weight.copy_(self.weights[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for weight, kept in own:
                    weight.copy_(kept)


def _has_fused(parameter: Tensor) -> bool:
    """Whether torch can update a parameter of this kind in one pass over memory (AdamW's `fused`)."""
    return parameter.device.type in ("cpu", "cuda") and parameter.is_floating_point()


def _named(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Every parameter under every name that state_dict has for it: tied weights have several."""
    return list(module.named_parameters(remove_duplicate=False))
