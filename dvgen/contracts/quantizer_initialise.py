"""Property P24: what a quantizer is right after `initialise`.

Shapes: n features, d width, k codes.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from dvgen.contracts.law import law, require, require_equal
from dvgen.contracts.module_state import state_of
from dvgen.contracts.quantizer_subject import (
    ENUMERABLE,
    SAMPLES,
    Example,
    Subject,
    all_codes,
    as_map,
    as_rows,
    outputs,
    run,
)
from dvgen.interfaces.quantizer import Quantizer

RESOLVED = 8
"""Steps of a floating-point number that features must span for codes to be told apart."""


def initialises(quantizer: Quantizer) -> bool:
    """Whether it sets anything from data."""
    return type(quantizer).initialise is not Quantizer.initialise


def enumerable(quantizer: Quantizer) -> bool:
    """Whether it has one level, of few enough codes to go through them all."""
    levels = quantizer.levels((1,))
    return len(levels) == 1 and levels[0].num_codes <= ENUMERABLE


def code_vectors(quantizer: Quantizer) -> Tensor:
    """The vectors (k, d) of all codes, as they are now."""
    return as_rows(quantizer.decode(all_codes(quantizer))).detach().clone()


@law("P24", "initialise gives finite state and outputs, whatever the rows: few, repeated, or one", applies=initialises)
def initialised_is_finite(subject: Subject, example: Example) -> None:
    for what, rows in _row_sets(subject, example):
        quantizer = _initialised(subject, rows, example.seed)
        out = run(quantizer.train(example.train), as_map(rows))
        for name, value in (state_of(quantizer) | outputs(out)).items():
            require(value.isfinite().all(), f"{name} is not finite after initialise from {what}")


@law("P24", "initialise depends on the rows and torch's seed alone", applies=initialises)
def initialise_is_deterministic(subject: Subject, example: Example) -> None:
    rows = example.rows(SAMPLES, subject.fresh().dim)
    first, again = (state_of(_initialised(subject, rows, example.seed)) for _ in range(2))
    for name, value in again.items():
        require_equal(value, first[name], f"{name} after initialise with the same seed")


@law(
    "P24",
    "the codes that initialise sets differ from one another, and none is zero unless the data is",
    applies=lambda q: initialises(q) and enumerable(q),
)
def initial_codes_differ(subject: Subject, example: Example) -> None:
    if example.scale < RESOLVED * abs(example.offset) * torch.finfo(example.dtype).eps:
        return  # so far from the origin hardly two vectors of this scale are different numbers
    for what, rows in _row_sets(subject, example):
        quantizer = _initialised(subject, rows, example.seed)
        vectors = code_vectors(quantizer)
        different = len(vectors.unique(dim=0))
        require(different == len(vectors), f"initialise from {what}: {different} different vectors for {len(vectors)} codes")
        zeros = int((vectors == 0).all(dim=1).sum())
        require(not quantizer.traits.table or zeros == 0 or (rows == 0).all(dim=1).any(), f"{zeros} codes of zero from {what}")


@law(
    "P24",
    "no code of a table is dead at the start: each is the nearest of some row it was initialised from",
    applies=lambda q: initialises(q) and enumerable(q) and q.traits.nearest and q.traits.table,
)
def none_dead_at_start(subject: Subject, example: Example) -> None:
    for what, rows in _row_sets(subject, example):
        quantizer = _initialised(subject, rows, example.seed)
        num_codes = quantizer.levels((1,))[0].num_codes
        if len(rows.unique(dim=0)) >= num_codes:
            used = len(quantizer.encode(as_map(rows))[0].unique())
            require(used == num_codes, f"initialised from {what}, {used} of {num_codes} codes are used")


def _initialised(subject: Subject, rows: Tensor, seed: int) -> Quantizer:
    quantizer = subject.fresh(seed)
    torch.manual_seed(seed + 1)
    quantizer.initialise(rows)
    quantizer.schedule(0)
    return quantizer


def _row_sets(subject: Subject, example: Example) -> Iterator[tuple[str, Tensor]]:
    """Rows of the example's scale and offset, in words and as (n, d)."""
    quantizer = subject.fresh()
    many = example.rows(SAMPLES, quantizer.dim)
    yield "many rows", many
    yield "as many rows as codes", many[: max(1, min(level.num_codes for level in quantizer.levels((1,))))]
    yield "rows of which most are repeated", torch.cat([many[:1].expand(SAMPLES, -1), many])
    yield "two rows, repeated", many[:2].repeat(SAMPLES, 1)
    yield "one row", many[:1]
    yield "equal rows", many[:1].expand(SAMPLES, -1).clone()
    if not quantizer.traits.table:
        return  # what is computed from codes so close may round to one vector
    # just far enough apart that their spread is no rounding of their size
    near = 1 + 4e-6 * torch.arange(2).unsqueeze(1).expand(2, quantizer.dim)
    yield "two rows that differ in their last digits", (near * (example.scale + example.offset)).float()
