"""Properties P14 and P18: what each loss reaches, and that its gradient is the derivative of its value.

Shapes: b batch, d width, *grid positions, n features, k codes.
"""

import inspect
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.nn import Parameter

from dvgen.contracts.law import law, require, require_close, require_equal
from dvgen.contracts.quantizer_rounding import upstream_for, wide_features
from dvgen.contracts.quantizer_subject import Example, Subject, as_rows, loss_kinds, run, twin_of
from dvgen.interfaces.quantizer import Quantized, Quantizer

STEP = 1e-5
"""Of central differences, relative to the scale of the features: in float64 neither curvature nor rounding shows."""

DIRECTIONS = 8
"""How many random directions a derivative is taken in."""


@law("P14", "commitment reaches features and not what decodes; the codebook loss the reverse",
     applies=lambda q: bool(loss_kinds(q) & {"commitment", "codebook"}))  # fmt: skip
def losses_reach(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    z, mask = wide_features(quantizer, example), example.valid()
    leaf = example.covered(z).requires_grad_()
    out = run(quantizer, leaf, mask)
    decoding = _decoding(quantizer)
    for name, value in out.losses.items():
        kind = _kind(name)
        reached = _reached(value, {"the features": leaf} | dict(quantizer.named_parameters()))
        if kind == "commitment":
            require(not reached & decoding, f"{name} reaches {sorted(reached & decoding)}, which the features should follow")
        if kind == "codebook":
            require(reached <= decoding, f"{name} reaches {sorted(reached - decoding)}, expected {sorted(decoding)} alone")
    # a smooth one commits to a function of the features: P18
    if quantizer.traits.nearest and quantizer.traits.estimator != "smooth":
        _check_closed_forms(quantizer, out, leaf, mask)


@law("P14", "the weight of the commitment stands on the commitment alone", applies=lambda q: _has_weight(q), once=True)
def weight_stands_alone(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    config: Any = quantizer.config
    make: Any = type(quantizer)
    weight = config.commitment
    heavier: Quantizer = make(attrs.evolve(config, commitment=2 * weight + 1))
    heavier.load_state_dict(quantizer.state_dict())
    z = example.features(quantizer.dim)
    before, after = run(quantizer, z).losses, run(heavier.train(quantizer.training), z).losses
    for name, value in before.items():
        if _kind(name) != "commitment":
            require_equal(after[name], value, f"loss {name} with another weight of the commitment")
        elif weight:
            require_close(after[name], value * (2 * weight + 1) / weight, f"loss {name} with another weight", relative=1e-5)


@law("P18", "the gradient of a loss is the derivative of its value where codes stay",
     applies=lambda q: bool(loss_kinds(q)), once=True)  # fmt: skip
def derivatives(subject: Subject, example: Example) -> None:
    for scale in (0.3, 1.0):
        situation = Example(scale=scale, train=False)
        quantizer = subject.prepared(situation).double()
        z = situation.features(quantizer.dim).double()
        for name in run(quantizer, z).losses:
            kind = _kind(name)
            if kind == "commitment" or _is_plain(kind):
                _check_derivative(quantizer, z, name, ("the features",), STEP * scale)
            # what a level leaves over depends on its parameters, but that dependence carries no gradient
            parameters = tuple(sorted(_decoding(quantizer))) if kind == "codebook" else _parameters(quantizer)
            if len(quantizer.levels((1,))) == 1 and kind != "commitment" and (kind == "codebook" or _is_plain(kind)):
                _check_derivative(quantizer, z, name, parameters, STEP)


def _check_closed_forms(quantizer: Quantizer, out: Quantized, leaf: Tensor, mask: Tensor | None) -> None:
    """Nearest codes, one level: weight * 2 (z - c) / size, and its sum over the features of each code.

    The weight of a loss is its value divided by the mean square, so that weight / size = value / sum of squares.
    """
    kept = torch.ones_like(leaf, dtype=torch.bool) if mask is None else mask.unsqueeze(1).expand(leaf.shape)
    difference = torch.where(kept, leaf.detach().double() - quantizer.decode(out.codes).detach().double(), 0)
    squares = float(difference.square().sum())
    for name in {"commitment", "codebook"} & out.losses.keys():
        require(squares > 0 or float(out.losses[name].detach()) == 0, f"{name} is not zero where features are codes")
    slope = {name: 2 * float(value.detach()) / squares if squares else 0.0 for name, value in out.losses.items()}
    if "commitment" in out.losses:
        found = _pulled(out.losses["commitment"], leaf)
        require_close(found, slope["commitment"] * difference, "gradient of commitment")
    codebook = getattr(quantizer, "codebook", None)
    if "codebook" in out.losses and quantizer.traits.table and isinstance(codebook, Parameter):
        found = _pulled(out.losses["codebook"], codebook)
        rows, codes = as_rows(-difference), out.codes[0].reshape(-1).clamp(min=0)
        sums = rows.new_zeros(codebook.shape).index_add_(0, codes, rows)
        largest = float(rows.abs().max()) if rows.numel() else 0.0
        require_close(found, slope["codebook"] * sums, "gradient of codebook", absolute=1e-5 * slope["codebook"] * largest)


def _pulled(value: Tensor, tensor: Tensor) -> Tensor:
    """The gradient of a loss; zero where it has none."""
    if not value.requires_grad:
        return torch.zeros_like(tensor)
    (gradient,) = torch.autograd.grad(value, tensor, retain_graph=True, allow_unused=True)
    return torch.zeros_like(tensor) if gradient is None else gradient


def _check_derivative(quantizer: Quantizer, z: Tensor, name: str, wanted: tuple[str, ...], step: float) -> None:
    """Compare along random directions of the features or of parameters, those left out along which a code changes."""
    leaf = z.clone().requires_grad_()
    named = {"the features": leaf} | dict(quantizer.named_parameters())
    tensors = [named[other] for other in wanted]
    here = run(quantizer, leaf)
    value = here.losses[name]
    if not tensors:
        return
    gradients = torch.autograd.grad(value, tensors, allow_unused=True) if value.requires_grad else [None] * len(tensors)
    found, expected = [], []
    for salt in range(DIRECTIONS):
        moves = [upstream_for(tensor.detach(), 40 * salt + i) for i, tensor in enumerate(tensors)]
        ends = [_moved(quantizer, z, dict(zip(wanted, moves, strict=True)), size) for size in (step, -step)]
        if all(torch.equal(a, b) for end in ends for a, b in zip(end.codes, here.codes, strict=True)):
            found.append(sum(float((g * move).sum()) for g, move in zip(gradients, moves, strict=True) if g is not None))
            expected.append(float(ends[0].losses[name] - ends[1].losses[name]) / (2 * step))
    require(2 * len(found) > DIRECTIONS, f"{name}: codes change along {DIRECTIONS - len(found)} of {DIRECTIONS} directions")
    noise = 1e-14 * abs(float(value.detach())) / step
    what = f"derivative of {name} by {', '.join(wanted)}"
    require_close(torch.tensor(found), torch.tensor(expected), what, relative=1e-3, absolute=noise)


@torch.no_grad()
def _moved(quantizer: Quantizer, z: Tensor, moves: dict[str, Tensor], size: float) -> Quantized:
    twin = twin_of(quantizer)
    for name, parameter in twin.named_parameters():
        if name in moves:
            parameter.add_(size * moves[name])
    return run(twin, z + size * moves["the features"] if "the features" in moves else z)


def _reached(value: Tensor, named: dict[str, Tensor]) -> set[str]:
    """The names of the tensors to which a loss has a gradient other than zero."""
    if not value.requires_grad:
        return set()
    wanted = {name: tensor for name, tensor in named.items() if tensor.requires_grad}
    gradients = torch.autograd.grad(value, list(wanted.values()), retain_graph=True, allow_unused=True)
    return {
        name for name, gradient in zip(wanted, gradients, strict=True) if gradient is not None and bool((gradient != 0).any())
    }


@torch.no_grad()
def _decoding(quantizer: Quantizer) -> set[str]:
    """The names of the parameters on which decoded vectors depend: those that change them."""
    codes = quantizer.encode(Example(batch=4).features(quantizer.dim).to(torch.float32))
    vectors = quantizer.decode(codes)
    found = set()
    for name in _parameters(quantizer):
        twin = twin_of(quantizer)
        changed = dict(twin.named_parameters())[name]
        changed.add_(1 + changed.abs())
        if not torch.equal(twin.decode(codes), vectors):
            found.add(name)
    return found


def _parameters(quantizer: Quantizer) -> tuple[str, ...]:
    return tuple(name for name, parameter in quantizer.named_parameters() if parameter.requires_grad)


def _kind(name: str) -> str:
    """The name of a loss without that of the part it comes from."""
    return name.rpartition(".")[2]


def _is_plain(kind: str) -> bool:
    """Whether a loss of this name is a plain function of features and parameters, no gradient stopped."""
    return kind == "kl" or kind.startswith("entropy")


def _has_weight(quantizer: Quantizer) -> bool:
    """Whether it is made of a config alone, and that has the field."""
    config: Any = getattr(quantizer, "config", None)
    alone = set(inspect.signature(type(quantizer)).parameters) == {"config"}
    return alone and attrs.has(type(config)) and "commitment" in attrs.fields_dict(type(config))
