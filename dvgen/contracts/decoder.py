"""Properties D1 to D4: what a decoder makes of vectors.

Shapes: b batch, c channels, *size of signals, d width, *grid of a map.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from attrs import evolve
from torch import Tensor, nn

from dvgen.contracts.autoencoder_subject import AutoencoderSubject, Pair
from dvgen.contracts.encoder import MANY, require_every_index
from dvgen.contracts.law import law, require, require_equal
from dvgen.contracts.model_subject import Example, weighted
from dvgen.interfaces.autoencoder import Decoder


@law("D1", "vectors on the encoder's grids become signals of the size they come from, (b, channels, *size)")
@torch.no_grad()
def shapes(subject: AutoencoderSubject, example: Example) -> None:
    pair: Pair = subject.prepared(example)
    signals, vectors = subject.inputs(example)
    output = pair.decoder(vectors)
    made = pair.decoder.signals(output)
    require(made.shape == signals.shape, f"signals of shape {tuple(made.shape)}, expected {tuple(signals.shape)}")
    if pair.decoder.makes == "signals":
        require_equal(made, output, "signals of a decoder that makes signals, and what it returned")


@law("D2", "every map, channel and place of the vectors reaches the signals")
def vectors_reach_signals(subject: AutoencoderSubject, example: Example) -> None:
    pair: Pair = subject.prepared(example)
    vectors = tuple(vector.requires_grad_() for vector in subject.inputs(evolve(example, batch=MANY))[1])
    made = pair.decoder.signals(pair.decoder(vectors))
    gradients = torch.autograd.grad(weighted(made), vectors, allow_unused=True)
    for i, (vector, gradient) in enumerate(zip(vectors, gradients, strict=True)):
        require_every_index(torch.zeros_like(vector) if gradient is None else gradient, f"vectors of map {i}")


@law("D3", "`last_layer` is a trainable parameter of the decoder, the same each time, and gets a gradient")
def last_layer(subject: AutoencoderSubject, example: Example) -> None:
    pair: Pair = subject.prepared(example, train=True)
    last = pair.decoder.last_layer
    require(last is pair.decoder.last_layer, "last_layer is another tensor each time")
    require(any(last is parameter for parameter in pair.decoder.parameters()), "last_layer is no parameter of the decoder")
    require(last.requires_grad, "last_layer is not trainable")
    weighted(pair.decoder(subject.inputs(example)[1])).backward()  # type: ignore[no-untyped-call]
    require(last.grad is not None and bool(last.grad.any()), "no gradient reaches last_layer")


@law("D4", "the layer of `last_layer` makes the output: behind it there is no other parameter")
def last_layer_is_last(subject: AutoencoderSubject, example: Example) -> None:
    pair: Pair = subject.prepared(example, train=True)
    with _cut_off(_owner(pair.decoder)) as leaves:
        output = pair.decoder(subject.inputs(example)[1])
    require(leaves, "the layer of last_layer is not called")
    later = [name for name, used in _used(pair.decoder, output).items() if used]
    require(not later, f"behind the layer of last_layer the output depends on {later}")
    require(output.requires_grad, "the output does not depend on the layer of last_layer")


def _owner(decoder: Decoder) -> nn.Module:
    last = decoder.last_layer
    return next(m for m in decoder.modules() if any(last is p for p in m.parameters(recurse=False)))


@contextmanager
def _cut_off(layer: nn.Module) -> Iterator[list[Tensor]]:
    """While this holds, what the layer returns is a constant that asks for a gradient; such constants are collected."""
    leaves: list[Tensor] = []

    def cut(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    handle = layer.register_forward_hook(cut)
    try:
        yield leaves
    finally:
        handle.remove()


def _used(module: nn.Module, output: Tensor) -> dict[str, bool]:
    """Whether the output depends on each trainable parameter."""
    named = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    gradients = torch.autograd.grad(weighted(output), list(named.values()), allow_unused=True)
    return {name: gradient is not None for name, gradient in zip(named, gradients, strict=True)}
