"""Properties L1 to L6: what a reconstruction loss says of signals and what was made of them.

Shapes: b batch, c channels, *size of signals.
"""

from functools import partial

import torch
from attrs import evolve
from torch import Tensor

from dvgen.contracts.law import law, must_raise, require, require_close, require_equal
from dvgen.contracts.model_subject import ROUNDING, Example, sample_of
from dvgen.contracts.signal_subject import LossSubject
from dvgen.errors import ShapeError


@law("L1", "a finite scalar; of losses that read signals, 0 when they are equal and never less")
@torch.no_grad()
def values(subject: LossSubject, example: Example) -> None:
    loss = subject.prepared(example)
    given, signals = subject.inputs(example)
    value = loss(given, signals)
    require(value.ndim == 0 and bool(value.isfinite()), f"the loss is {value}, expected a finite scalar")
    if loss.reads != "signals":
        return
    require(float(value) > 0, f"the loss of different signals is {float(value)}, expected more than 0")
    for same in (signals, torch.zeros_like(signals)):
        found = float(loss(same.clone(), same))
        require(abs(found) <= ROUNDING * float(value), f"the loss of equal signals is {found}, expected 0")


@law("L2", "the gradient reaches every sample of what was made, and is finite, also where it equals the signals")
def gradients(subject: LossSubject, example: Example) -> None:
    loss = subject.prepared(example, train=True)
    given, signals = subject.inputs(example)
    attached = loss(given.clone().requires_grad_(), signals).requires_grad
    require(attached, "the loss carries no gradient to what was made: nothing could be trained by it")
    gradient = _gradient(loss, given, signals)
    require(all(one.any() for one in gradient), "the gradient of some sample is zero")
    silence = torch.zeros_like(signals)
    cases = {"at zero signals": (torch.zeros_like(given), silence), "at zero": (torch.zeros_like(given), signals)}
    if loss.reads == "signals":
        cases |= {"where both are equal": (signals.clone(), signals)}
    for where, (made, real) in cases.items():
        require(_gradient(loss, made, real).isfinite().all(), f"the gradient {where} is not finite")


@law("L3", "it is the mean over the batch of the loss of each sample, so that micro-batches add up")
@torch.no_grad()
def mean_over_batch(subject: LossSubject, example: Example) -> None:
    loss = subject.prepared(example)
    inputs = subject.inputs(example)
    alone = torch.stack([loss(*sample_of(inputs, i)) for i in range(example.batch)]).mean()
    require_close(loss(*inputs), alone, "the loss of a batch, and the mean of each sample's", relative=ROUNDING)


@law("L4", "what was made in another shape than it reads raises ShapeError, also where torch would broadcast", once=True)
@torch.no_grad()
def wrong_shapes(subject: LossSubject, example: Example) -> None:
    loss = subject.prepared(example)
    given, signals = subject.inputs(evolve(example, batch=3))
    wrong = {
        "fewer samples": given[:2],
        "one sample": given[:1],
        "a wider one": torch.cat([given, given], dim=-1),
        "one place": given[..., :1],
        "more channels": torch.cat([given, given, given], dim=1),
        "an axis more": given.unsqueeze(-1),
    }
    for what, made in wrong.items():
        must_raise(partial(loss, made, signals), ShapeError, f"{what}: {tuple(made.shape)} for signals {tuple(signals.shape)}")


@law("L5", "in training it is what it is in evaluation: nothing drops out or moves")
@torch.no_grad()
def same_in_training(subject: LossSubject, example: Example) -> None:
    loss = subject.prepared(example)
    inputs = subject.inputs(example)
    expected = loss(*inputs)
    loss.train()
    for _ in range(2):
        require_equal(loss(*inputs), expected, "the loss in training mode, and in evaluation")


@law("L6", "nothing of it asks for a gradient: a loss is not trained")
def nothing_to_train(subject: LossSubject, example: Example) -> None:
    names = [name for name, parameter in subject.fresh(example).named_parameters() if parameter.requires_grad]
    require(not names, f"{names} ask for a gradient, and no optimiser has them; make them buffers")


def _gradient(loss: torch.nn.Module, given: Tensor, signals: Tensor) -> Tensor:
    leaf = given.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, signals), leaf)[0]
