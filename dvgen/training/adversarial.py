"""The adversarial game of stage one: what the discriminator's verdict adds to the tokenizer's loss, and its own loss."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from dvgen.blocks.across_ranks import sum_over_ranks
from dvgen.experiment import Adversarial
from dvgen.interfaces.discriminator import Discriminator
from dvgen.interfaces.loss import AdversarialLoss
from dvgen.training.stage import Rival

DELTA, LARGEST = 1e-4, 1e4
"""Added to the denominator of the adaptive weight, and its highest value, as in the released code of VQGAN."""


class Move(NamedTuple):
    """One player's part of a step: its term of the loss, and scalars to log."""

    loss: Tensor
    values: dict[str, Tensor]


@final
class Judge(nn.Module):
    """Logits of real and of reconstructed signals in one forward: what Fabric wraps may be called once a step.

    Two calls of the discriminator all the same: in one batch, normalisation would let each side see the other.
    """

    def __init__(self, discriminator: Discriminator) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        return self.discriminator(real), self.discriminator(fake)


@final
class Game:
    """VQGAN (Esser et al., 2021), section 3.1: L = L_rec + L_vq + factor * weight * lambda * L_generator.

    lambda is the adaptive weight (equation 7). Until `settings.start` the generator's term is not computed at all; factor
    then rises to 1 over `settings.ramp` steps. The discriminator learns from `settings.begin` on.
    last_layer: where lambda is measured. autocast: the precision of training, for the calls that Fabric does not wrap.
    """

    def __init__(
        self,
        settings: Adversarial,
        discriminator: Discriminator,
        loss: AdversarialLoss,
        *,
        last_layer: nn.Parameter,
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self.settings = settings
        self.discriminator = discriminator
        self.loss = loss
        self.last_layer = last_layer
        self.autocast = autocast
        self.judge = Judge(discriminator)

    def rival(self) -> Rival:
        """The discriminator as the second player of the loop."""
        groups = [group for group in self.discriminator.parameter_groups() if group["params"]]
        return Rival(name="discriminator", module=self.judge, groups=groups, lr=self.settings.lr, betas=self.settings.betas)

    def factor(self, step: int) -> float:
        """The share of the weight that the generator's term has at a step: 0 before `start`, 1 from `start` + `ramp` - 1 on."""
        since = step - self.settings.start + 1
        return 0.0 if since <= 0 else min(1.0, since / self.settings.ramp) if self.settings.ramp else 1.0

    def kind(self, step: int) -> str:
        """Who takes part at a step: the critic from `begin` on, its verdict of the generator from `start` on."""
        return "-".join(["step", *["critic"] * (step >= self.settings.begin), *["generator"] * (self.factor(step) > 0)])

    def generator(self, reconstruction: Tensor, fake: Tensor, step: int) -> Move | None:
        """The generator's term, weighted; None before its time.

        reconstruction: the weighted sum of the reconstruction losses, a scalar that still has its graph. fake:
        reconstructed signals (b, channels, *size). The discriminator is frozen meanwhile, and not the wrapped one, which
        would wait for gradients that never come. lambda is measured for each micro-batch by itself.
        """
        factor = self.factor(step)
        if not factor:
            return None
        with frozen(self.discriminator), self.autocast():
            term = self.loss.generator(self.discriminator(fake).float())
        scale = torch.ones_like(term)
        if self.settings.adaptive:
            scale = adaptive_weight(reconstruction, term, self.last_layer)
        values = {"adversarial_weight": scale, "adversarial_factor": torch.full_like(scale, factor), "generator": term.detach()}
        return Move(factor * self.settings.weight * scale * term, values)

    def critic(self, judge: nn.Module, real: Tensor, fake: Tensor, step: int) -> Move | None:
        """The discriminator's own loss, through the wrapped `judge`; None before its time. No gradient leaves it."""
        if step < self.settings.begin:
            return None
        logits_real, logits_fake = (logits.float() for logits in judge(real, fake.detach()))
        loss = self.loss.discriminator(logits_real, logits_fake)
        right = (logits_real > 0).float().mean() + (logits_fake < 0).float().mean()
        values = {
            "discriminator": loss,
            "logits_real": logits_real.mean(),
            "logits_fake": logits_fake.mean(),
            "discriminator_accuracy": right / 2,
        }
        return Move(loss, {name: value.detach() for name, value in values.items()})


def adaptive_weight(reconstruction: Tensor, generator: Tensor, last_layer: nn.Parameter) -> Tensor:
    """|grad of the reconstruction loss| / (|grad of the generator's loss| + DELTA) at the last layer, in [0, LARGEST].

    VQGAN (Esser et al., 2021), equation 7. Norms are of the gradients of the whole batch: they are averaged over ranks
    before. No gradient flows through the weight.
    """
    losses = (reconstruction, generator)
    gradients = [torch.autograd.grad(loss, last_layer, retain_graph=True)[0].float() for loss in losses]
    whole = sum_over_ranks(torch.stack([*gradients]), training=True)
    ranks = sum_over_ranks(torch.ones((), device=whole.device), training=True)
    ours, theirs = (gradient.norm() / ranks for gradient in whole)
    return (ours / (theirs + DELTA)).clamp(0.0, LARGEST).detach()


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No parameter of the module takes part in graphs that are built in this block."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
