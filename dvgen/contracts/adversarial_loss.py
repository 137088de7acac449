"""Properties A1 to A3: the two sides of the adversarial game.

Shapes: b batch, *patches of logits.
"""

import torch
from torch import Tensor

from dvgen.contracts.law import law, require, require_close
from dvgen.contracts.model_subject import ROUNDING, Example
from dvgen.contracts.signal_subject import AdversarialLossSubject

HUGE = (0.0, 1e2, 1e4, -1e4)
"""Logits at which exponentials overflow."""


@law("A1", "both losses are finite scalars with finite gradients, for logits up to 1e4, in float32 too")
def finite(subject: AdversarialLossSubject, example: Example) -> None:
    loss = subject.prepared(example)
    for dtype in (torch.float64, torch.float32):
        logits = subject.inputs(example, dtype)
        for one in HUGE:
            for other in HUGE:
                real, fake = (tensor + size for tensor, size in zip(logits, (one, other), strict=True))
                _check_finite(subject, loss, real.requires_grad_(), fake.requires_grad_())


@law("A2", "between logits of 0 and 1 the discriminator's loss falls with every real one and rises with every fake one")
def discriminator_gradients(subject: AdversarialLossSubject, example: Example) -> None:
    loss = subject.prepared(example)
    real, fake = (_between(logits) for logits in subject.inputs(example))
    of_real, of_fake = torch.autograd.grad(loss.discriminator(real, fake), (real, fake))
    require((of_real < 0).all(), "the discriminator's loss does not fall with every real logit")
    require((of_fake > 0).all(), "the discriminator's loss does not rise with every fake logit")


@law("A2", "between logits of 0 and 1 the generator's loss falls with every fake one")
def generator_gradients(subject: AdversarialLossSubject, example: Example) -> None:
    loss = subject.prepared(example)
    fake = _between(subject.inputs(example)[1])
    (gradient,) = torch.autograd.grad(loss.generator(fake), fake)
    require((gradient < 0).all(), "the generator's loss does not fall with every fake logit")


@law("A3", "a batch twice, or more patches of the same logits, leave both losses as they are")
@torch.no_grad()
def mean_over_batch(subject: AdversarialLossSubject, example: Example) -> None:
    loss = subject.prepared(example)
    inputs = subject.inputs(example)
    expected = subject.outputs(loss, *inputs)
    for axis in (0, -1):
        twice = subject.outputs(loss, *(torch.cat([logits, logits], dim=axis) for logits in inputs))
        for name, value in twice.items():
            require_close(value, expected[name], f"{name} of logits twice along axis {axis}", relative=ROUNDING, absolute=1e-12)


def _between(logits: Tensor) -> Tensor:
    """Logits at which every usual pair of losses still has a slope: hinges and squares turn at 1, squares also at 0."""
    return logits.sigmoid().clamp(0.01, 0.99).requires_grad_()


def _check_finite(subject: AdversarialLossSubject, loss: torch.nn.Module, real: Tensor, fake: Tensor) -> None:
    for name, value in subject.outputs(loss, real, fake).items():
        require(value.ndim == 0 and bool(value.isfinite()), f"{name}: {value}, expected a finite scalar")
        for gradient in torch.autograd.grad(value, (real, fake), allow_unused=True):
            require(gradient is None or bool(gradient.isfinite().all()), f"{name}: the gradient of a logit is not finite")
