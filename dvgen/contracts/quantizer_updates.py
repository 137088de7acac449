"""Properties P19, P22, P25 and P26: the codebook's own step, from statistics that add up.

Shapes: b batch, d width, *grid positions, n features, k codes.
"""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dvgen.contracts.law import law, require, require_close, require_equal
from dvgen.contracts.module_state import require_state, state_of
from dvgen.contracts.quantizer_initialise import code_vectors, enumerable
from dvgen.contracts.quantizer_subject import (
    SAMPLES,
    Example,
    Subject,
    as_map,
    as_rows,
    objective,
    outputs,
    run,
    twin_of,
)
from dvgen.interfaces.quantizer import Quantizer

FEW = 3
"""Updates within which no code is given up as unused."""

ROUNDING = 1e-5
"""Of a mean in float32, relative to the largest value."""


def updates(quantizer: Quantizer) -> bool:
    """Whether `update` moves anything."""
    return type(quantizer).update is not Quantizer.update


def averages(quantizer: Quantizer) -> bool:
    """Whether it moves the rows of a table towards means of the features nearest to them."""
    if not (updates(quantizer) and enumerable(quantizer) and quantizer.traits.table and quantizer.traits.nearest):
        return False
    return {"counts", "sums"} <= run(quantizer, torch.zeros(1, quantizer.dim, 1)).pending.keys()


@law(
    "P19",
    "an update takes each chosen code towards the mean of the features that chose it, and never past it",
    applies=averages,
)
def towards_the_mean(subject: Subject, example: Example) -> None:
    quantizer, rows = _initialised(subject, example)
    before = code_vectors(quantizer).double()
    out = run(quantizer, as_map(rows))
    pending, codes = out.pending, out.codes[0][0]
    counts = torch.bincount(codes, minlength=len(before))
    means = torch.zeros_like(before).index_add_(0, codes, rows.double()) / counts.clamp(min=1).unsqueeze(1)
    require_close(pending["counts"], counts, "pending counts", relative=0.0)
    quantizer.update(pending)
    after, chosen = code_vectors(quantizer).double(), counts > 0
    way, moved = (means - before)[chosen], (after - before)[chosen]
    length = way.square().sum(dim=1, keepdim=True)
    share = ((moved * way).sum(dim=1, keepdim=True) / length.clamp(min=torch.finfo(torch.float64).tiny)).clamp(0, 1)
    allowed = ROUNDING * float(rows.abs().max())
    require_close(moved, share * way, "places of chosen codes, beside the segment to the mean", relative=0.0, absolute=allowed)
    far = length.squeeze(1) > (4 * allowed) ** 2
    # a decay of one is a codebook that stands still
    still = not moved.any()
    require(still or (share.squeeze(1)[far] > 0).all(), "a chosen code did not move towards the mean of its features")


@law("P19", "an update lowers the quantization error of the batch it comes from", applies=averages)
def error_falls(subject: Subject, example: Example) -> None:
    quantizer, rows = _initialised(subject, example)
    before = _error(quantizer, rows)
    for _ in range(FEW):
        quantizer.update(run(quantizer, as_map(rows)).pending)
        after = _error(quantizer, rows)
        rounding = (1e-5 * float(rows.abs().max())) ** 2
        require(after <= before * (1 + 1e-5) + rounding, f"the error rose from {before:.6g} to {after:.6g}")
        before = after


@law(
    "P22",
    "a code that nobody chose keeps its place, bit for bit",
    applies=lambda q: updates(q) and enumerable(q),
)
def unused_stays(subject: Subject, example: Example) -> None:
    quantizer, rows = _initialised(subject, example)
    vectors = code_vectors(quantizer)
    z = as_map(torch.cat([vectors[:1], rows[:1]]).float())
    ever = torch.zeros(len(vectors), dtype=torch.bool)
    for step in range(FEW):
        out = run(quantizer, z, seed=step)
        ever[out.codes[0].reshape(-1)] = True
        quantizer.update(out.pending)
    require_equal(code_vectors(quantizer)[~ever], vectors[~ever], f"places of unused codes after {FEW} updates")


@law("P26", "pending statistics of micro-batches add up to those of the batch, and so do the updates", applies=updates)
def micro_batches(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    if not quantizer.deterministic:
        quantizer.eval()
    z, mask = example.covered(example.features(quantizer.dim)), example.valid()
    in_parts = twin_of(quantizer)  # made before: a forward pass that moves state is not to pass for one that does not
    whole = run(quantizer, z, mask).pending
    sizes = [example.batch // 3, example.batch - example.batch // 3, 0]
    masks = [None] * 3 if mask is None else mask.split(sizes)
    parts = [run(in_parts, part, valid).pending for part, valid in zip(z.split(sizes), masks, strict=True)]
    summed = {name: torch.stack([part[name] for part in parts]).sum(dim=0) for name in whole}
    for name, value in summed.items():
        require(value.is_floating_point(), f"pending {name} is {value.dtype}, expected floats")
        require_close(value, whole[name], f"pending {name}, summed over parts", relative=1e-5)
    quantizer.update(whole)
    in_parts.update(summed)
    expected = state_of(quantizer)
    for name, value in state_of(in_parts).items():
        require_close(value, expected[name], f"{name} after an update from parts", relative=1e-5)


@law("P25", "activation checkpointing changes no output, gradient, statistic or update")
def checkpointing(subject: Subject, example: Example) -> None:
    plain, checkpointed = subject.prepared(example), subject.prepared(example)
    clean, mask = example.covered(example.features(plain.dim)), example.valid()
    z, again = clean.clone().requires_grad_(), clean.clone().requires_grad_()
    out = run(plain, z, mask)
    torch.manual_seed(0)
    recomputed = checkpoint(checkpointed, again, mask, use_reentrant=False)
    for name, value in outputs(recomputed).items():
        require_equal(value, outputs(out)[name], f"{name} under checkpointing")
    if out.vectors.requires_grad:
        objective(out).backward()
        objective(recomputed).backward()
    gradients = {"features": (again.grad, z.grad)}
    for (name, parameter), (_, other) in zip(plain.named_parameters(), checkpointed.named_parameters(), strict=True):
        gradients[name] = (other.grad, parameter.grad)
    for name, (found, expected) in gradients.items():
        require((found is None) == (expected is None), f"gradient of {name} is missing with or without checkpointing")
        if found is not None and expected is not None:
            require_equal(found, expected, f"gradient of {name} under checkpointing")
    plain.update(out.pending)
    checkpointed.update(recomputed.pending)
    require_state(checkpointed, state_of(plain), "after checkpointing and an update")


def _initialised(subject: Subject, example: Example) -> tuple[Quantizer, Tensor]:
    """A quantizer in training, initialised from rows of the example's scale and offset, and other such rows (n, d)."""
    quantizer = subject.fresh(example.seed)
    torch.manual_seed(example.seed)
    quantizer.initialise(example.rows(SAMPLES, quantizer.dim))
    return quantizer.train(), example.rows(SAMPLES, quantizer.dim, salt=1)


def _error(quantizer: Quantizer, rows: Tensor) -> float:
    """Mean squared distance of rows (n, d) from their vectors, in float64."""
    vectors = as_rows(quantizer.decode(quantizer.encode(as_map(rows))))
    return float((vectors.double() - rows.double()).square().sum(dim=1).mean())
