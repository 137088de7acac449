"""Properties P29 to P33 and P37: what may not depend on the order, the company or the place of features.

Shapes: b batch, d width, *grid positions, n features, k codes.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator, Tensor

from dvgen.contracts.law import law, require, require_close, require_equal
from dvgen.contracts.module_state import state_of
from dvgen.contracts.quantizer_rounding import (
    require_same_outputs,
    rounding,
    same_grids,
    wide_features,
)
from dvgen.contracts.quantizer_subject import (
    ENUMERABLE,
    Example,
    Subject,
    all_codes,
    as_map,
    as_rows,
    objective,
    outputs,
    run,
)
from dvgen.interfaces.quantizer import MAX_COUNTED, Quantized, Quantizer

ALONE = 6
"""How many positions are quantized alone."""


@law("P29", "exchanging positions, within a map or between maps, exchanges codes and vectors and changes nothing else")
def permutation(subject: Subject, example: Example) -> None:
    quantizer = _sampling_nothing(subject, example)
    z, mask = wide_features(quantizer, example), example.valid()
    everywhere = same_grids(quantizer, example.grid)
    order = _order(z.shape[0] * math.prod(example.grid) if everywhere else z.shape[0], example.seed)
    allowed = rounding(quantizer, z, mask)
    here = run(quantizer, z, mask)
    there = run(
        quantizer,
        _exchanged(z, order, everywhere),
        None if mask is None else _exchanged(mask.unsqueeze(1), order, everywhere)[:, 0],
    )
    settled = _exchanged(allowed.settled.unsqueeze(1), order, everywhere)[:, 0]
    for code, found in zip(here.codes, there.codes, strict=True):
        expected = _exchanged(code.unsqueeze(1), order, everywhere)[:, 0]
        sure = settled if found.shape == settled.shape else torch.ones_like(found, dtype=torch.bool)
        require_equal(found[sure], expected[sure], "codes of exchanged positions")
    if not allowed.settled.all():
        return
    expected = _exchanged(here.vectors, order, everywhere)
    exact = quantizer.traits.table
    require_close(there.vectors, expected, "vectors of exchanged positions", relative=0 if exact else 1e-5)
    require_same_outputs(there, here, allowed, "exchanged positions")


@law("P30", "the code of a position is the same in any company")
def company(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    z = wide_features(quantizer, example)
    settled, together = rounding(quantizer.eval(), z).settled, quantizer.encode(z)
    for i in range(z.shape[0]):
        for code, alone in zip(together, quantizer.encode(z[i : i + 1]), strict=True):
            sure = settled[i] if code.shape == settled.shape else torch.ones_like(code[i], dtype=torch.bool)
            require_equal(alone[0][sure], code[i][sure], "codes of a map alone")
    if not same_grids(quantizer, example.grid):
        return
    rows, sure = as_rows(z), settled.reshape(-1)
    for place in sure.nonzero().squeeze(1).tolist()[:ALONE]:
        for code, alone in zip(together, quantizer.encode(as_map(rows[place : place + 1])), strict=True):
            require_equal(alone.reshape(()), code.reshape(-1)[place], "code of a position alone")


@law("P32", "equal seeds give equal bits, also where torch is told to be deterministic")
def determinism(subject: Subject, example: Example) -> None:
    for switch in (False, True):
        with _deterministic_algorithms(switch):
            first, second = (_everything(subject, example) for _ in range(2))
        for name, value in first.items():
            require_equal(second[name], value, f"{name} of a second run with the same seed")


@law("P33", "counts are those of the codes, perplexity is the exponential of their entropy")
def use_of_codes(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    mask = example.valid()
    out = run(quantizer, example.covered(example.features(quantizer.dim)), mask)
    for i, level in enumerate(quantizer.levels(example.grid)):
        code = out.codes[i][out.codes[i] >= 0]
        if mask is not None and level.grid == example.grid:
            require(len(code) == int(mask.sum()), f"{level.name}: {len(code)} codes for {int(mask.sum())} valid positions")
        _check_use(out, i, code, level.num_codes)


@law(
    "P33",
    "when every code is used equally, perplexity is the number of codes",
    applies=lambda q: _idempotent_table(q),
    once=True,
)
def uniform_use(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(Example(updates=0)).eval()
    out = run(quantizer, quantizer.decode(all_codes(quantizer)).detach())
    for i, level in enumerate(quantizer.levels((1,))):
        require_close(
            out.stats[f"perplexity_{i}"], torch.tensor(float(level.num_codes)), f"{level.name}: perplexity of uniform use"
        )


@law("P33", "the promised scalars are there: error, variance, spread, lengths, and they are what they are called")
def promised_scalars(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    z, mask = example.covered(wide_features(quantizer, example)), example.valid()
    out = run(quantizer, z, mask)
    names = ("quantization_error", "feature_variance", "feature_spread", "feature_norm", "vector_norm", "finite")
    for name in names:
        require(name in out.stats and out.stats[name].ndim == 0, f"stats[{name!r}] is missing, or no scalar")
        require(float(out.stats[name]) >= 0, f"stats[{name!r}] is {float(out.stats[name])}, expected 0 or more")
    require(float(out.stats["feature_spread"]) <= 1 + 1e-5, "feature_spread is a share: at most 1")
    if quantizer.traits.estimator not in ("straight-through", "rotation"):
        # what the vectors stand for is a function of the features that is not visible here
        return
    kept = slice(None) if mask is None else mask.reshape(-1)
    features, vectors = as_rows(z)[kept].double(), as_rows(out.vectors.detach())[kept].double()
    if len(features):
        error = (vectors - features).square().mean()
        allowed = 1e-10 * float(features.square().mean())
        require_close(out.stats["quantization_error"].double(), error, "quantization_error", relative=1e-3, absolute=allowed)
        norm = features.square().sum(dim=1).mean().sqrt()
        require_close(out.stats["feature_norm"].double(), norm, "feature_norm", relative=1e-3)


@law("P37", "moving or turning features and codebook together keeps all codes", once=True,
     applies=lambda q: q.traits.nearest and q.traits.table)  # fmt: skip
def moved_together(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(Example(updates=0)).eval()
    size, dim = quantizer.levels((1,))[0].num_codes, quantizer.dim
    for seed in range(8):
        generator = Generator().manual_seed(seed)
        # whole numbers, so that every distance is exact in float32, and ties are ties
        codebook = torch.randint(-4, 5, (size, dim), generator=generator).float()
        z = torch.randint(-6, 7, (200, dim), generator=generator).float()
        shift = torch.randint(-3000, 3001, (dim,), generator=generator).float()
        axes = torch.randperm(dim, generator=generator)
        signs = torch.randint(0, 2, (dim,), generator=generator) * 2.0 - 1
        expected = _codes_of(quantizer, z, codebook)
        require_equal(_codes_of(quantizer, z + shift, codebook + shift), expected, f"codes moved by {shift.tolist()}")
        require_equal(
            _codes_of(quantizer, (z * signs)[:, axes], (codebook * signs)[:, axes]), expected, "codes of turned features"
        )


def _sampling_nothing(subject: Subject, example: Example) -> Quantizer:
    """The quantizer; in evaluation if it samples in training, since noise goes by position."""
    quantizer = subject.prepared(example)
    return quantizer if quantizer.deterministic else quantizer.eval()


def _order(n: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=Generator().manual_seed(seed))


def _exchanged(values: Tensor, order: Tensor, everywhere: bool) -> Tensor:
    """Values (b, any, *grid), their positions in another order, or their maps."""
    if not everywhere:
        return values[order]
    moved = values.movedim(1, -1)
    return as_rows(values)[order].reshape(moved.shape).movedim(-1, 1)


def _everything(subject: Subject, example: Example) -> dict[str, Tensor]:
    """Outputs, gradients and the state after an update, of a quantizer made anew."""
    quantizer = subject.prepared(example)
    leaf = example.covered(example.features(quantizer.dim)).requires_grad_()
    out = run(quantizer, leaf, example.valid(), seed=3)
    value = objective(out)
    if value.requires_grad:
        value.backward()  # type: ignore[no-untyped-call]
    quantizer.update(out.pending)
    gradients = {f"gradient of {name}": value.grad for name, value in quantizer.named_parameters() if value.grad is not None}
    if leaf.grad is not None:
        gradients["gradient of the features"] = leaf.grad
    return {name: value.detach() for name, value in (outputs(out) | gradients | state_of(quantizer)).items()}


@contextmanager
def _deterministic_algorithms(switch: bool) -> Iterator[None]:
    before, lenient = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(switch)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=lenient)


def _check_use(out: Quantized, i: int, code: Tensor, num_codes: int) -> None:
    uses = code.unique(return_counts=True)[1].double()
    shares = uses / uses.sum()
    expected = (-(shares * shares.log()).sum()).exp() if len(code) else torch.ones(())
    found = out.stats[f"perplexity_{i}"]
    require_close(found, expected, f"perplexity_{i}", relative=1e-5)
    most = max(1, min(num_codes, len(code)))
    require(1 <= float(found) <= most * (1 + 1e-6), f"perplexity_{i} is {float(found):.6g}, expected 1 to {most}")
    if num_codes > MAX_COUNTED:
        require(f"counts_{i}" not in out.stats, f"counts_{i}: {num_codes} codes are too many to count one by one")
        return
    require_equal(out.stats[f"counts_{i}"].long(), code.bincount(minlength=num_codes), f"counts_{i}")


def _idempotent_table(quantizer: Quantizer) -> bool:
    sizes = math.prod(level.num_codes for level in quantizer.levels((1,)))
    return quantizer.traits.idempotent and sizes <= ENUMERABLE


@torch.no_grad()
def _codes_of(quantizer: Quantizer, z: Tensor, codebook: Tensor) -> Tensor:
    quantizer.codebook.copy_(codebook)  # type: ignore[operator, union-attr]
    return quantizer.encode(as_map(z))[0]
