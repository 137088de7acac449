"""Properties P1, P2 and P4 to P11: what a quantizer returns.

Shapes: b batch, d width, *grid positions, n features, k codes.
"""

from functools import partial

import torch
from torch import Tensor

from dvgen.contracts.law import law, must_raise, require, require_equal
from dvgen.contracts.module_state import state_of
from dvgen.contracts.quantizer_subject import (
    ENUMERABLE,
    Example,
    Subject,
    all_codes,
    as_rows,
    masked_like,
    objective,
    outputs,
    run,
)
from dvgen.errors import DvgenError, NonFiniteError
from dvgen.interfaces.codes import MASKED
from dvgen.interfaces.quantizer import Quantizer


@law("P1", "vectors have the shape and dtype of the features, codes the grids of the levels, on any grid")
def shapes(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    z = example.features(quantizer.dim)
    out = run(quantizer, example.covered(z), example.valid())
    require(out.vectors.shape == z.shape, f"vectors: shape {tuple(out.vectors.shape)} for features {tuple(z.shape)}")
    require(out.vectors.dtype == z.dtype, f"vectors: {out.vectors.dtype} for features of {z.dtype}")
    levels = quantizer.levels(example.grid)
    require(len(out.codes) == len(levels), f"{len(out.codes)} tensors of codes for {len(levels)} levels")
    for codes, level in zip(out.codes, levels, strict=True):
        require(codes.shape == (example.batch, *level.grid), f"{level.name}: codes of shape {tuple(codes.shape)}")
    for name, value in out.losses.items():
        require(value.ndim == 0, f"loss {name}: shape {tuple(value.shape)}, expected a scalar")
    for group in (out.stats, out.pending):
        require(not any(value.requires_grad for value in group.values()), "stats and pending must be detached")


@law("P2", "codes are int64 and in range; masked positions hold -1")
def ranges(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    z, mask = example.covered(example.features(quantizer.dim)), example.valid()
    for codes in (run(quantizer, z, mask).codes, quantizer.encode(z, mask)):
        for code, level in zip(codes, quantizer.levels(example.grid), strict=True):
            require(code.dtype == torch.int64, f"codes are {code.dtype}, expected int64")
            known = code if mask is None else code[mask]
            require(((known >= 0) & (known < level.num_codes)).all(), f"{level.name}: codes out of 0..{level.num_codes - 1}")
            require(mask is None or (code[~mask] == MASKED).all(), "masked positions must hold -1")


@law("P4", "decoding the codes gives the vectors, bit for bit, in training and in evaluation")
def decode_gives_vectors(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    if not quantizer.deterministic:
        quantizer.eval()
    z, mask = example.features(quantizer.dim), example.valid()
    out = run(quantizer, example.covered(z).requires_grad_(), mask)  # as in training: an estimator may change the value
    require_equal(quantizer.decode(out.codes).to(z.dtype), out.vectors, "decode(codes)")


@law("P5", "encode gives the codes of forward in evaluation, whatever the mode")
def encode_gives_codes(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    z, mask = example.covered(example.features(quantizer.dim)), example.valid()
    encoded = quantizer.encode(z, mask)
    for code, expected in zip(encoded, run(quantizer.eval(), z, mask).codes, strict=True):
        require_equal(code, expected, "encode(z)")


@law("P6", "quantizing the vectors gives their codes again", applies=lambda q: q.traits.idempotent)
def idempotent(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example).eval()
    codes = quantizer.encode(example.features(quantizer.dim).float())
    for again, code in zip(quantizer.encode(quantizer.decode(codes)), codes, strict=True):
        require_equal(again, code, "encode(decode(codes))")


@law("P6-", "a quantizer that is not declared idempotent is not", applies=lambda q: not q.traits.idempotent, once=True)
def not_idempotent(subject: Subject, example: Example) -> None:
    for seed in range(8):
        quantizer = trained(subject, seed)
        z = torch.cat([Example(batch=1, grid=(400,), scale=s, seed=seed).features(quantizer.dim) for s in (0.2, 1.0, 5.0)])
        codes = quantizer.encode(z)
        again = quantizer.encode(quantizer.decode(codes))
        if any((a != b).any() for a, b in zip(again, codes, strict=True)):
            return
    require(False, "encode(decode(codes)) equals the codes in every case tried: declare traits.idempotent")


@law("P7", "a masked code decodes to the zero vector, and masked positions hold it")
def masked_is_zero(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    z, mask = example.covered(example.features(quantizer.dim)), example.valid()
    out = run(quantizer, z, mask)
    if mask is not None:
        require((as_rows(out.vectors)[~mask.reshape(-1)] == 0).all(), "vectors at masked positions must be zero")
    nothing = quantizer.decode(tuple(masked_like(code) for code in out.codes))
    require(nothing.shape == z.shape and bool((nothing == 0).all()), "codes of -1 must decode to zero vectors")


@law("P8", "different codes have different vectors, and a prefix of the levels decodes", once=True)
def bijection(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(Example(updates=0))
    levels = quantizer.levels((1,))
    if all(level.num_codes <= ENUMERABLE for level in levels) and len(levels) == 1:
        table = table_of(quantizer)
        require(len(table.unique(dim=0)) == len(table), f"{len(table)} codes, but {len(table.unique(dim=0))} different vectors")
    codes = quantizer.encode(Example().features(quantizer.dim))
    for count in range(1, len(levels) + 1):
        vectors = quantizer.decode(codes[:count])
        require(vectors.shape == Example().features(quantizer.dim).shape, f"decode of {count} levels: {tuple(vectors.shape)}")


@law(
    "P8",
    "where nothing is learned, features of ordinary size reach every code",
    applies=lambda q: not any(value.is_floating_point() for value in q.state_dict().values()),
    once=True,
)
def every_code_is_reached(subject: Subject, example: Example) -> None:
    quantizer = subject.fresh()
    z = torch.cat([Example(batch=1, grid=(2**15,), scale=scale).features(quantizer.dim) for scale in (0.5, 1.0, 2.0)])
    for code, level in zip(quantizer.encode(z), quantizer.levels((2**15,)), strict=True):
        reached = len(code.unique())
        enough = reached == level.num_codes or level.num_codes > ENUMERABLE
        require(enough, f"{level.name}: {reached} of {level.num_codes} codes are reached")


@law("P9", "a code out of range raises an error of dvgen", once=True)
def out_of_range(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    codes = quantizer.encode(Example().features(quantizer.dim))
    for i, level in enumerate(quantizer.levels(Example().grid)):
        for bad in (level.num_codes, MASKED - 1):
            wrong = [code.clone() for code in codes]
            wrong[i][(-1,) * wrong[i].ndim] = bad
            must_raise(partial(quantizer.decode, tuple(wrong)), DvgenError, f"decode of code {bad}")


@law("P10", "a value that is NaN or infinite raises and moves nothing", once=True)
def bad_values(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    before = state_of(quantizer)
    for bad in (torch.nan, torch.inf, -torch.inf):
        z = Example().features(quantizer.dim)
        z[1, 0, 0, 1] = bad
        for act in (quantizer, quantizer.encode):
            must_raise(partial(act, z), NonFiniteError, f"{bad} among the features")
        if type(quantizer).initialise is not Quantizer.initialise:
            must_raise(partial(quantizer.initialise, as_rows(z)), NonFiniteError, f"initialise with {bad}")
    for name, value in state_of(quantizer).items():
        require_equal(value, before[name], f"{name} after bad values")


@law("P11", "nothing valid: losses and gradients are zero, statistics finite, and the state stays")
def nothing_valid(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    before = state_of(quantizer)
    for batch, masked in ((0, False), (2, True)):
        z = torch.full((batch, quantizer.dim, *example.grid), torch.nan).requires_grad_()
        mask = torch.zeros(batch, *example.grid, dtype=torch.bool) if masked else None
        out = run(quantizer, z, mask)
        require(all(loss == 0 for loss in out.losses.values()), "losses must be 0 when nothing is valid")
        require(all(value.isfinite().all() for value in outputs(out).values()), "outputs must be finite")
        objective(out).backward()
        gradients = [z.grad, *(parameter.grad for parameter in quantizer.parameters())]
        require(all(g is None or (g == 0).all() for g in gradients), "gradients must be zero when nothing is valid")
        quantizer.update(out.pending)
        for name, value in state_of(quantizer).items():
            require_equal(value, before[name], f"{name} after an update from nothing")


@torch.no_grad()
def trained(subject: Subject, seed: int) -> Quantizer:
    """A quantizer in evaluation whose parameters are no longer where `initialise` put them."""
    quantizer = subject.prepared(Example(updates=0, seed=seed)).eval()
    for parameter in quantizer.parameters():
        parameter.add_(torch.randn_like(parameter) * parameter.square().mean().sqrt())
    return quantizer


def table_of(quantizer: Quantizer) -> Tensor:
    """The vectors of all codes (k, d)."""
    return as_rows(quantizer.decode(all_codes(quantizer)))


def as_one_index(quantizer: Quantizer, codes: tuple[Tensor, ...]) -> Tensor:
    """Codes of all levels as the one index (n,) of `all_codes`."""
    index = torch.zeros_like(codes[0])
    for code, level in zip(codes, quantizer.levels((1,)), strict=True):
        index = index * level.num_codes + code
    return index.reshape(-1)
