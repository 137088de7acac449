"""Properties M6 to M10, of every component that is no quantizer: samples keep apart, gradients arrive, widths count."""

from typing import Any

import torch
from attrs import evolve
from torch import nn

from dvgen.contracts.law import law, require, require_close
from dvgen.contracts.model_subject import ROUNDING, Example, ModelSubject, mapped, sample_of
from dvgen.errors import ShapeError

TINY = 100_000
"""Parameters of a tiny model: above, a proof by enumeration or a contract takes more than seconds."""

PASSES = 3
"""Batches over which every parameter must have had a gradient: one may leave a ReLU shut."""


@law("M6", "in evaluation, what becomes of a sample does not depend on the samples beside it", applies=lambda s: s.batched)
@torch.no_grad()
def neighbours(subject: ModelSubject, example: Example) -> None:
    model = subject.prepared(example)
    inputs = subject.inputs(evolve(example, batch=max(2, example.batch)))
    together = subject.outputs(model, *inputs)
    for i in (0, 1):
        for name, value in subject.outputs(model, *sample_of(inputs, i)).items():
            require_close(value, together[name][i : i + 1], f"{name} of a sample alone", relative=ROUNDING, absolute=1e-12)


@law("M7", "no samples give no rows, or a ShapeError", applies=lambda s: s.batched)
@torch.no_grad()
def empty_batch(subject: ModelSubject, example: Example) -> None:
    model = subject.prepared(example)
    inputs = subject.inputs(example)
    expected = subject.outputs(model, *inputs)
    try:
        found = subject.outputs(model, *mapped(inputs, lambda tensor: tensor[:0], 0))
    except ShapeError:
        return
    for name, value in found.items():
        wanted = (0, *expected[name].shape[1:])
        require(tuple(value.shape) == wanted, f"{name} of no samples: shape {tuple(value.shape)}, expected {wanted}")


@law("M8", "parameter_groups hold every trainable parameter exactly once, and nothing else")
def groups(subject: ModelSubject, example: Example) -> None:
    model: Any = subject.fresh(example)
    names = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    grouped = [parameter for group in model.parameter_groups() for parameter in group["params"]]
    for parameter in grouped:
        require(id(parameter) in names, f"in a group, but not trainable or not its own: a tensor of {tuple(parameter.shape)}")
    counts = {name: sum(id(one) == key for one in grouped) for key, name in names.items()}
    wrong = {name: count for name, count in counts.items() if count != 1}
    require(not wrong, f"how often parameters stand in groups, expected once: {wrong}")


@law("M9", "training reaches every trainable parameter with a finite gradient")
def gradient_reach(subject: ModelSubject, example: Example) -> None:
    model = subject.prepared(example, train=True)
    for i in range(PASSES):
        value = subject.objective(model, *subject.inputs(evolve(example, batch=max(2, example.batch), seed=example.seed + i)))
        require(value.ndim == 0 and value.isfinite(), f"what training minimises is {value}, expected a finite scalar")
        if value.requires_grad:
            value.backward()  # type: ignore[no-untyped-call]
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    dead = [name for name, parameter in named.items() if parameter.grad is None or not parameter.grad.any()]
    require(not dead, f"no gradient reaches {dead}")
    wild = [name for name, parameter in named.items() if parameter.grad is not None and not parameter.grad.isfinite().all()]
    require(not wild, f"the gradient is not finite of {wild}")


@law("M10", "`tiny()` is a Config, and small", applies=lambda s: s.trained, once=True)
def tiny(subject: ModelSubject, example: Example) -> None:
    configs = tuple(kind.tiny() for kind in subject.kinds)
    for kind, config in zip(subject.kinds, configs, strict=True):
        require(isinstance(config, kind.Config), f"tiny() of {kind.__name__} is a {type(config).__name__}")
    count = _parameters(subject, configs, example)
    require(count < TINY, f"tiny() has {count} parameters, expected less than {TINY}")


@law("M10", "`scaled` by 1 is the same config, and by 2 either that too or one with more parameters",
     applies=lambda s: s.trained, once=True)  # fmt: skip
def scaled(subject: ModelSubject, example: Example) -> None:
    before = _parameters(subject, subject.configs, example)
    for i, (kind, config) in enumerate(zip(subject.kinds, subject.configs, strict=True)):
        same, wider = kind.scaled(config, 1.0), kind.scaled(config, 2.0)
        require(same == config, f"{kind.__name__}.scaled(config, 1.0) is {same}, expected {config}")
        if wider != config:
            configs = (*subject.configs[:i], wider, *subject.configs[i + 1 :])
            after = _parameters(subject, configs, example)
            require(after > before, f"{kind.__name__}.scaled(config, 2.0): {after} parameters where there were {before}")


def _parameters(subject: ModelSubject, configs: tuple[Any, ...], example: Example) -> int:
    with torch.device("meta"):
        model: nn.Module = subject.made(configs, example)
    return sum(parameter.numel() for parameter in model.parameters())
