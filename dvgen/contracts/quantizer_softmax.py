"""Property P17: the gradient through a softmax over all codes, and the sampling of codes.

Shapes: b batch, d width, *grid positions, n features, k codes.
"""

import torch
from torch import Tensor
from torch.nn import Parameter

from dvgen.contracts.law import law, require, require_close
from dvgen.contracts.quantizer_gradients import pulled
from dvgen.contracts.quantizer_rounding import upstream_for, wide_features
from dvgen.contracts.quantizer_subject import Example, Subject, as_rows, run
from dvgen.interfaces.quantizer import Quantizer

DRAWS = 4096
"""How often the code of a feature is drawn."""


@law("P17", "softmax: vectors are rows of the codebook in training too, and a gradient reaches the features",
     applies=lambda q: q.traits.estimator == "softmax")  # fmt: skip
def hard_forward(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    z, mask = example.covered(wide_features(quantizer, example)), example.valid()
    out = run(quantizer, z, mask)
    require_close(out.vectors, quantizer.decode(out.codes), "vectors in training", relative=1e-6)
    # far from the scale a quantizer was made for, a softmax may be certain, and its gradient zero
    usual = Example(seed=example.seed)
    quantizer = subject.prepared(usual)
    gradient = pulled(quantizer, z := usual.features(quantizer.dim), None, upstream_for(z))
    require((gradient != 0).any(), "the gradient of the vectors does not reach the features")


@law("P17", "softmax: an upstream gradient that cannot tell codes apart reaches no feature, and the codebook as the row chosen",
     applies=lambda q: q.traits.estimator == "softmax" and q.traits.table)  # fmt: skip
def blind_upstream(subject: Subject, example: Example) -> None:
    usual = Example(seed=example.seed, train=example.train, updates=example.updates)
    quantizer = subject.prepared(usual)
    codebook = quantizer.codebook
    with torch.no_grad():
        codebook[:, 0] = 1.0  # type: ignore[index, operator]
    leaf = usual.features(quantizer.dim).requires_grad_()
    upstream = torch.zeros_like(leaf)
    upstream[:, 0] = upstream_for(leaf.detach()[:, 0])
    # all rows have the same product with it, and a softmax does not move when all its terms count alike
    out = run(quantizer, leaf)
    scale = _largest(pulled(quantizer, leaf, None, upstream_for(leaf.detach(), 1)))
    (found,) = torch.autograd.grad(out.vectors, leaf, upstream, retain_graph=True)
    require_close(found, torch.zeros_like(found), "gradient of a blind upstream", absolute=1e-4 * scale + 1e-5)
    if isinstance(codebook, Parameter):
        (found,) = torch.autograd.grad(out.vectors, codebook, upstream)
        rows = as_rows(upstream).double()
        expected = rows.new_zeros(codebook.shape).index_add_(0, out.codes[0].reshape(-1), rows)
        sensitive = 1e-5 * max(1.0, _largest(leaf)) * _largest(rows) * len(rows)
        require_close(found, expected, "gradient of the codebook", absolute=sensitive)


@law("P17", "codes of one feature are drawn alike, each anew, and `encode` gives the most frequent one",
     applies=lambda q: not q.deterministic, once=True)  # fmt: skip
def frequencies(subject: Subject, example: Example) -> None:
    varied = False
    for seed in range(6):
        # not initialised: an initialised quantizer may be so certain that nothing is left to draw
        quantizer = subject.fresh(seed).train()
        z = Example(batch=1, grid=(1,), seed=seed).features(quantizer.dim)
        drawn = [_drawn(quantizer, z, salt) for salt in (1, 2)]
        for level, (one, two, code) in enumerate(zip(*drawn, quantizer.encode(z), strict=True)):
            varied |= bool((one > 0).sum() > 1)
            _check_alike(one, two, level)
            both = one + two
            most, own = float(both.max()), float(both[code.reshape(-1)])
            # five standard deviations of the difference of two counts
            require(
                own >= most - 5 * (own + most) ** 0.5, f"level {level}: encode's code drawn {own:.0f} times, another {most:.0f}"
            )
    require(varied, "training draws the same code every time: declare deterministic")


def _drawn(quantizer: Quantizer, z: Tensor, seed: int) -> list[Tensor]:
    """How often each code (k,) of each level is drawn for the feature z (1, d, 1)."""
    codes = run(quantizer, z.expand(1, -1, DRAWS), seed=seed).codes
    levels = quantizer.levels((DRAWS,))
    return [code.reshape(-1).bincount(minlength=level.num_codes).double() for code, level in zip(codes, levels, strict=True)]


def _check_alike(one: Tensor, two: Tensor, level: int) -> None:
    """A chi-square test of two samples of equal size, at about five standard deviations."""
    seen = (one + two) > 0
    statistic = float(((one - two).square()[seen] / (one + two)[seen]).sum())
    degrees = int(seen.sum()) - 1
    allowed = degrees + 5 * (2 * degrees) ** 0.5 + 10
    require(
        statistic <= allowed, f"level {level}: codes of two draws differ, chi-square {statistic:.1f}, allowed {allowed:.1f}"
    )


def _largest(values: Tensor) -> float:
    return float(values.detach().abs().max()) if values.numel() else 0.0
