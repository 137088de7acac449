"""Properties P34 to P36: quantizers of several levels, and entropies.

Shapes: b batch, d width, *grid positions, n features, k codes.
"""

import math

import torch
from torch import Tensor

from dvgen.contracts.law import law, require, require_close, require_equal
from dvgen.contracts.quantizer_rounding import wide_features
from dvgen.contracts.quantizer_subject import ENUMERABLE, Example, Subject, as_rows, loss_kinds, run
from dvgen.interfaces.codes import Codes
from dvgen.interfaces.quantizer import Quantizer

EPS = torch.finfo(torch.float32).eps


@law("P34", "each level adds a vector of its own, and decoding a prefix gives the sum so far",
     applies=lambda q: q.traits.composition == "residual")  # fmt: skip
def partial_sums(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    codes = quantizer.encode(wide_features(quantizer, example))
    for count in range(1, len(codes) + 1):
        table = _contributions(quantizer, count)
        if table is None or not codes[0].numel():
            return
        before = _decoded(quantizer, codes[: count - 1])
        expected = before + table[codes[count - 1].reshape(-1)]
        found = _decoded(quantizer, codes[:count])
        # the sum of levels is rounded, and so is the table, a difference of two sums
        size = float(torch.stack([before.abs().max(), expected.abs().max(), table.abs().max()]).max())
        require_close(found, expected, f"decode of {count} levels", relative=0, absolute=8 * count * EPS * size)


@law("P34", "each level names the vector nearest to what the levels before leave over",
     applies=lambda q: q.traits.composition == "residual" and _nearest_parts(q))  # fmt: skip
def nearest_of_what_is_left(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    z = wide_features(quantizer, example)
    codes, rows = quantizer.encode(z), as_rows(z).double()
    for count in range(1, len(codes) + 1):
        table = _contributions(quantizer, count)
        if table is None or not len(rows):
            return
        left = rows - _decoded(quantizer, codes[: count - 1])
        distances = (left.unsqueeze(1) - table).norm(dim=2)
        own = (rows - _decoded(quantizer, codes[:count])).norm(dim=1)
        # so an error grows only where every vector of the level makes it grow; what is left over is a rounded difference
        size = float(torch.stack([rows.abs().max(), left.abs().max(), table.abs().max()]).max())
        worst = float((own - distances.amin(dim=1)).max())
        allowed = 16 * count * EPS * size * math.sqrt(quantizer.dim)
        require(worst <= allowed, f"level {count - 1}: a code is {worst:.3g} further than the nearest, allowed {allowed:.3g}")


@law("P35", "product: a level sees its own channels and nothing else, and its vector depends on its own code alone",
     applies=lambda q: q.traits.composition == "product")  # fmt: skip
def independent_groups(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example).eval()
    z = example.features(quantizer.dim)
    here = run(quantizer, z)
    groups = [_channels(quantizer, i) for i in range(len(here.codes))]
    require((torch.stack(groups).sum(dim=0) <= 1).all(), "a channel depends on the codes of several levels")
    other = torch.where(example.features(1, salt=9) > example.offset, example.features(quantizer.dim, salt=7), 2 * z)
    for i, group in enumerate(groups):
        there = run(quantizer, torch.where(group.view(-1, *(1,) * (z.ndim - 2)), other, z))
        for j, (code, expected) in enumerate(zip(there.codes, here.codes, strict=True)):
            if j != i:
                require_equal(code, expected, f"codes of level {j} when the features of level {i} change")
        require_equal(there.vectors[:, ~group], here.vectors[:, ~group], f"other vectors when the features of level {i} change")


def _has_entropies(quantizer: Quantizer) -> bool:
    return any(kind.startswith("entropy_") for kind in loss_kinds(quantizer))


@law("P36", "entropies: 0 <= mean entropy of a position <= entropy of the mean <= log of the number of codes, in nats",
     applies=_has_entropies)  # fmt: skip
def entropies(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    out = run(quantizer, example.covered(example.features(quantizer.dim)), example.valid())
    for name in out.losses:
        if name.rpartition(".")[2].startswith("entropy_"):
            require(name in out.stats, f"loss {name} without a stat of that name, in nats")
    most = sum(math.log(level.num_codes) for level in quantizer.levels(example.grid))
    rounded = 1e-5 * (1 + most)
    for name, value in out.stats.items():
        if name.rpartition(".")[2] in ("entropy_sample", "entropy_batch"):
            require(-rounded <= float(value) <= most + rounded, f"{name} is {float(value):.6g}, expected 0 to {most:.6g}")
    for prefix in (name.removesuffix("entropy_sample") for name in out.stats if name.endswith("entropy_sample")):
        each, mean = float(out.stats[f"{prefix}entropy_sample"]), float(out.stats[f"{prefix}entropy_batch"])
        require(each <= mean + rounded, f"{prefix}entropy_sample is {each:.6g}, above entropy_batch {mean:.6g}")


@law("P36", "entropy losses make positions certain and the batch varied, not the reverse", applies=_has_entropies, once=True)
def entropy_signs(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    situations = [Example(scale=scale, offset=offset) for scale in (0.05, 0.5, 2.0) for offset in (0.0, 1.0)]
    runs = [run(quantizer, situation.features(quantizer.dim)) for situation in situations]
    for name in runs[0].losses:
        kind = name.rpartition(".")[2]
        if kind not in ("entropy_sample", "entropy_batch") or name not in runs[0].stats:
            continue
        sign = 1 if kind == "entropy_sample" else -1
        for one in runs:
            for two in runs:
                rises = float(two.stats[name] - one.stats[name])
                change = sign * float((two.losses[name] - one.losses[name]).detach())
                require(abs(rises) < 1e-5 or change * rises >= 0, f"loss {name} has the wrong sign: entropy up by {rises:.3g}")


@torch.no_grad()
def _decoded(quantizer: Quantizer, codes: Codes) -> Tensor:
    """The vectors (n, d) of a prefix in float64; those of no levels are zero."""
    return as_rows(quantizer.decode(codes)).double() if codes else torch.zeros(1, quantizer.dim, dtype=torch.float64)


def _contributions(quantizer: Quantizer, count: int) -> Tensor | None:
    """The vectors (k, d) that the last of `count` levels adds, its codes in order; None when there are too many."""
    size = quantizer.levels((1,))[count - 1].num_codes
    if size > ENUMERABLE:
        return None
    before = tuple(torch.zeros(1, size, dtype=torch.int64) for _ in range(count - 1))
    return _decoded(quantizer, (*before, torch.arange(size).unsqueeze(0))) - _decoded(quantizer, before)


def _nearest_parts(quantizer: Quantizer) -> bool:
    """Whether all quantizers it is made of, if it is made of any, name the nearest vector."""
    return all(part.traits.nearest for part in quantizer.modules() if isinstance(part, Quantizer) and part is not quantizer)


@torch.no_grad()
def _channels(quantizer: Quantizer, level: int) -> Tensor:
    """bool (d,): the channels of decoded vectors that a level's code changes, whatever the other codes are."""
    sizes = [other.num_codes for other in quantizer.levels((1,))]
    codes = torch.arange(min(sizes[level], ENUMERABLE)).unsqueeze(0)
    changed = torch.zeros(quantizer.dim, dtype=torch.bool)
    for other in (0, 1):
        rest = [torch.full_like(codes, min(other, size - 1)) for size in sizes]
        vectors = as_rows(quantizer.decode((*rest[:level], codes, *rest[level + 1 :])))
        changed |= (vectors != vectors[:1]).any(dim=0)
    return changed
