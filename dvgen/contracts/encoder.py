"""Properties E1 to E5: what an encoder makes of signals.

Shapes: b batch, c channels, *size of signals, d width, *grid of a map.
"""

import math
from functools import partial

import torch
from attrs import evolve
from torch import Tensor

from dvgen.contracts.autoencoder_subject import AutoencoderSubject, Pair
from dvgen.contracts.law import law, must_raise, require, require_equal
from dvgen.contracts.model_subject import Example, weighted
from dvgen.errors import ConfigError
from dvgen.interfaces.autoencoder import Encoder

ODD_SIZES = ((1,), (7,), (16,), (1, 1), (3, 5), (6, 9), (12, 12), (4, 4, 4))
"""Sizes that an encoder has to take or to refuse."""

MANY = 8
"""Samples enough that a place is not cut off in all of them by ReLUs that are shut."""

NO_SIZES = ((), (0,), (0, 0), (16, 0))
"""Sizes of no signals at all."""


@law("E1", "`maps(config)` is the number of grids and of features, and any other number of dims raises ConfigError")
@torch.no_grad()
def number_of_maps(subject: AutoencoderSubject, example: Example) -> None:
    pair: Pair = subject.prepared(example)
    signals, _ = subject.inputs(example)
    count, shape = len(subject.dims), subject.shape(example)
    grids, features = pair.encoder.grids(shape[1:]), pair.encoder(signals)
    require(isinstance(features, tuple), f"features are a {type(features).__name__}, expected a tuple")
    require(len(grids) == count, f"{len(grids)} grids, expected {count}")
    require(len(features) == count, f"{len(features)} feature maps, expected {count}")
    for wrong in {0, count - 1, count + 1} - {count}:
        must_raise(partial(subject.encoder, shape[0], (3,) * wrong), ConfigError, f"{wrong} dims for {count} maps")


@law("E2", "what quantizer i sees is (b, dims[i], *grid), the grid that `grids` told, and features stand on it too")
@torch.no_grad()
def shapes(subject: AutoencoderSubject, example: Example) -> None:
    pair: Pair = subject.prepared(example)
    signals, vectors = subject.inputs(example)
    _require_shapes(pair.encoder, subject.dims, signals, vectors)


@law("E3", "every channel, row and column of a signal reaches the maps, and every map depends on its signal")
def signals_reach_maps(subject: AutoencoderSubject, example: Example) -> None:
    pair: Pair = subject.prepared(example)
    signals, vectors = subject.inputs(evolve(example, batch=MANY))
    signals.requires_grad_()
    features = pair.encoder(signals)
    total = torch.zeros_like(signals)
    for i in range(len(features)):
        seen = pair.encoder.condition(i, features, vectors[:i])
        (gradient,) = torch.autograd.grad(weighted(seen), signals, retain_graph=True, allow_unused=True)
        reached = gradient is not None and all(one.any() for one in gradient)
        require(reached, f"map {i}: the gradient of the signals is zero, so it does not depend on them")
        total += gradient.abs()
    require_every_index(total, "signals")


@law("E4", "`condition` is a pure function of features and coarser vectors, whatever was asked before")
@torch.no_grad()
def condition_is_pure(subject: AutoencoderSubject, example: Example) -> None:
    pair: Pair = subject.prepared(example)
    signals, vectors = subject.inputs(example)
    features = pair.encoder(signals)
    kept = [tensor.clone() for tensor in (*features, *vectors)]
    first = [pair.encoder.condition(i, features, vectors[:i]).clone() for i in range(len(features))]
    for i in reversed(range(len(features))):
        # others, with other vectors, between two calls: a coarser map may know nothing of finer ones
        for j in reversed(range(len(features))):
            pair.encoder.condition(j, features, tuple(-vector for vector in vectors[:j]))
        pair.encoder(-signals)
        require_equal(pair.encoder.condition(i, features, vectors[:i]), first[i], f"condition of map {i}, asked again")
    for tensor, value in zip((*features, *vectors), kept, strict=True):
        require_equal(tensor, value, "features and coarser vectors after `condition`")


@law("E5", "a size has grids, and the maps then have them, or raises ConfigError", once=True)
@torch.no_grad()
def sizes(subject: AutoencoderSubject, example: Example) -> None:
    channels = subject.shape(example)[0]
    encoder = subject.encoder(channels, subject.dims).double().eval()
    for size in ODD_SIZES + NO_SIZES:
        try:
            grids = encoder.grids(size)
        except ConfigError:
            continue
        require(size not in NO_SIZES, f"size {size} was not refused: grids {grids}")
        require(all(side >= 1 for grid in grids for side in grid), f"size {size}: empty grids {grids}")
        if math.prod(size) <= 256:
            vectors = tuple(example.normal(2, dim, *grid) for dim, grid in zip(subject.dims, grids, strict=True))
            _require_shapes(encoder, subject.dims, example.normal(2, channels, *size), vectors)


def require_every_index(gradient: Tensor, what: str) -> None:
    """Raise Broken when a whole slice of (b, c, *size), along any axis, has no gradient."""
    for axis in range(gradient.ndim):
        others = [other for other in range(gradient.ndim) if other != axis]
        missing = (gradient.abs().amax(dim=others) == 0).nonzero().flatten().tolist()
        name = ["samples", "channels"][axis] if axis < 2 else f"places along axis {axis - 2}"
        require(not missing, f"{what}: {name} {missing} influence nothing")


def _require_shapes(encoder: Encoder, dims: tuple[int, ...], signals: Tensor, vectors: tuple[Tensor, ...]) -> None:
    size = tuple(signals.shape[2:])
    grids, features = encoder.grids(size), encoder(signals)
    for i, (dim, grid) in enumerate(zip(dims, grids, strict=True)):
        require(tuple(features[i].shape[2:]) == tuple(grid), f"features of map {i}: {tuple(features[i].shape)}, grid {grid}")
        seen = encoder.condition(i, features, vectors[:i])
        wanted = (len(signals), dim, *grid)
        require(tuple(seen.shape) == wanted, f"size {size}, map {i}: shape {tuple(seen.shape)}, expected {wanted}")
