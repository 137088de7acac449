"""Properties G1 to G3: what a discriminator makes of signals.

Shapes: b batch, c channels, *size of signals, *patches of logits.
"""

from typing import Any

import torch
from attrs import evolve
from torch import Tensor

from dvgen.contracts.encoder import MANY, require_every_index
from dvgen.contracts.law import law, require
from dvgen.contracts.model_subject import Example, weighted
from dvgen.contracts.signal_subject import DiscriminatorSubject


@law("G1", "logits are (b, 1, *patches), at least one a signal, with an axis of patches for each axis of the signal")
@torch.no_grad()
def shapes(subject: DiscriminatorSubject, example: Example) -> None:
    model = subject.prepared(example)
    (signals,) = subject.inputs(example)
    logits = model(signals)
    shape = tuple(logits.shape)
    right = logits.ndim == signals.ndim and shape[:2] == (example.batch, 1) and logits.numel() >= example.batch
    require(right, f"logits of shape {shape} for signals of shape {tuple(signals.shape)}, expected (b, 1, *patches)")


@law("G2", "every channel, row and column of a signal reaches the logits, and every logit depends on its own signal alone")
def signals_reach_logits(subject: DiscriminatorSubject, example: Example) -> None:
    model = subject.prepared(example)
    (signals,) = subject.inputs(evolve(example, batch=MANY))
    signals.requires_grad_()
    logits = model(signals)
    total = _gradient(logits, signals).abs()
    require_every_index(total, "signals")
    own = _gradient(logits[:1], signals)
    require(bool(own[0].any()), "the first signal does not reach its own logits")
    require(not own[1:].any(), "other signals reach the logits of the first one")


@law("G3", "signals that are constant, as reconstructions are at first, give finite logits and gradients, in training too")
def constant_signals(subject: DiscriminatorSubject, example: Example) -> None:
    model: Any = subject.prepared(example, train=True)
    (signals,) = subject.inputs(example)
    for value in (0.0, 1.0, -1.0):
        grey = torch.full_like(torch.cat([signals, signals]), value).requires_grad_()
        logits = model(grey)
        require(logits.isfinite().all(), f"logits of signals that are {value} everywhere are not finite")
        model.zero_grad()
        logits.square().sum().backward()
        named = {"signals": grey.grad} | {name: parameter.grad for name, parameter in model.named_parameters()}
        wild = [name for name, gradient in named.items() if gradient is not None and not gradient.isfinite().all()]
        require(not wild, f"signals that are {value} everywhere: the gradient is not finite of {wild}")


def _gradient(logits: Tensor, signals: Tensor) -> Tensor:
    return torch.autograd.grad(weighted(logits), signals, retain_graph=True)[0]
