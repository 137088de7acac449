"""Property P31: masking positions is leaving them out.

Shapes: b batch, d width, *grid positions, n features.
"""

import torch
from attrs import evolve, frozen
from torch import Tensor

from dvgen.contracts.law import law, require_close, require_equal
from dvgen.contracts.module_state import state_of
from dvgen.contracts.quantizer_rounding import MARGIN, TIMES, require_same_outputs, rounding, same_grids, shaken, wide_features
from dvgen.contracts.quantizer_subject import (
    JUNK,
    Example,
    Subject,
    as_map,
    as_rows,
    objective,
    outputs,
    run,
    twin_of,
)
from dvgen.interfaces.quantizer import Quantized, Quantizer


@frozen
class Step:
    """A training step: what forward returned, the gradients by name, and the state after the update."""

    out: Quantized
    features: Tensor
    gradients: dict[str, Tensor]
    state: dict[str, Tensor]


@law("P31", "what lies under the mask changes nothing")
def junk_under_the_mask(subject: Subject, example: Example) -> None:
    masked = evolve(example, mask="all" if example.mask == "all" else "some")
    quantizer = subject.prepared(masked)
    z, mask = masked.features(quantizer.dim), masked.valid()
    expected = _step(quantizer, z, mask)
    for junk in range(len(JUNK)):
        found = _step(quantizer, evolve(masked, junk=junk).covered(z), mask)
        for name, value in _all(expected).items():
            require_equal(_all(found)[name], value, f"{name} with {JUNK[junk]} under the mask")


@law("P31", "masked positions weigh nothing: losses, gradients, statistics and updates are those of the others alone")
def mask_is_leaving_out(subject: Subject, example: Example) -> None:
    masked = evolve(example, mask="some")
    quantizer = subject.prepared(masked)
    # noise goes by position, so that leaving some out gives the others another noise
    quantizer = quantizer if quantizer.deterministic else quantizer.eval()
    z, mask = wide_features(quantizer, masked), masked.valid()
    if not same_grids(quantizer, masked.grid) or mask is None:
        return
    kept = mask.reshape(-1)
    rows = as_map(as_rows(z)[kept]) if kept.any() else z.new_zeros(0, quantizer.dim, 1)
    allowed = rounding(quantizer, rows)
    covered, dense = _step(quantizer, masked.covered(z), mask), _step(quantizer, rows)
    settled = allowed.settled.reshape(-1)
    for code, expected in zip(covered.out.codes, dense.out.codes, strict=True):
        require_equal(code.reshape(-1)[kept][settled], expected.reshape(-1)[settled], "codes beside masked positions")
    if not settled.all():
        return
    require_same_outputs(covered.out, dense.out, allowed, "beside masked positions")
    others = [_step(quantizer, shaken(rows, salt)) for salt in range(TIMES)]
    moved = max((_furthest(other.features, dense.features) for other in others), default=0.0)
    require_close(as_rows(covered.features)[kept], as_rows(dense.features), "gradient of the features", absolute=MARGIN * moved)
    for group in ("gradients", "state"):
        for name, value in getattr(dense, group).items():
            moved = max(_furthest(getattr(other, group)[name], value) for other in others)
            require_close(getattr(covered, group)[name], value, f"{group}: {name}", absolute=MARGIN * moved)


def _step(quantizer: Quantizer, z: Tensor, mask: Tensor | None = None) -> Step:
    """One step of a copy of the quantizer, by the gradient of the vectors' squares and all losses."""
    twin = twin_of(quantizer)
    leaf = z.detach().clone().requires_grad_()
    out = run(twin, leaf, mask)
    named = {"the features": leaf} | dict(twin.named_parameters())
    value = objective(out)
    nothing = (None,) * len(named)
    found = torch.autograd.grad(value, list(named.values()), allow_unused=True) if value.requires_grad else nothing
    gradients = {
        name: torch.zeros_like(tensor) if gradient is None else gradient
        for (name, tensor), gradient in zip(named.items(), found, strict=True)
    }
    twin.update(out.pending)
    return Step(out, gradients.pop("the features"), gradients, state_of(twin))


def _all(step: Step) -> dict[str, Tensor]:
    gradients = {f"gradient of {name}": value for name, value in step.gradients.items()}
    return outputs(step.out) | {"gradient of the features": step.features} | gradients | step.state


def _furthest(one: Tensor, two: Tensor) -> float:
    return float((one.double() - two.double()).abs().max()) if one.numel() else 0.0
