"""Properties M1 to M5, of every component that is no quantizer: what it keeps, and that nothing hidden changes it."""

import copy
import pickle
from typing import Any

import torch
from attrs import evolve
from torch import Tensor, nn

from dvgen.contracts.law import law, require, require_close, require_equal
from dvgen.contracts.model_subject import Example, ModelSubject, mapped, tensors_in
from dvgen.contracts.module_state import plain_values, require_state, state_of, through_file

SINGLE = 2e-3
"""How far float32 may lie from float64, relative to the largest value: a few hundred roundings that add up."""


@law("M1", "in evaluation, outputs are a function of the inputs: the same each time, and no state, input or random state moves")
@torch.no_grad()
def pure_in_evaluation(subject: ModelSubject, example: Example) -> None:
    model = subject.prepared(example)
    inputs = subject.inputs(example)
    before, hidden, noise = state_of(model), plain_values(model), torch.get_rng_state()
    kept = [tensor.clone() for tensor in tensors_in(inputs)]
    first = subject.outputs(model, *inputs)
    first = {name: value.clone() for name, value in first.items()}
    for name, value in subject.outputs(model, *inputs).items():
        require_equal(value, first[name], f"{name} of a second pass in evaluation")
    require_state(model, before, "after two passes in evaluation")
    require(plain_values(model) == hidden, "attributes that are no tensors differ after two passes in evaluation")
    require_equal(torch.get_rng_state(), noise, "random state after two passes in evaluation")
    for tensor, value in zip(tensors_in(inputs), kept, strict=True):
        require_equal(tensor, value, "an input after two passes in evaluation")


@law("M2", "forward and backward in training move no parameter, and no state but what state_dict carries")
def training_keeps(subject: ModelSubject, example: Example) -> None:
    model = subject.prepared(example, train=True)
    before, hidden = state_of(model), plain_values(model)
    inputs = subject.inputs(evolve(example, batch=max(2, example.batch)))
    value = subject.objective(model, *inputs)
    if value.requires_grad:
        value.backward()  # type: ignore[no-untyped-call]
    moving = set(model.state_dict()) - set(dict(model.named_parameters()))
    for name, found in state_of(model).items():
        if name not in moving:
            require_equal(found, before[name], f"{name} after forward and backward")
    require(plain_values(model) == hidden, "attributes that state_dict does not carry differ after forward and backward")


@law("M3", "state_dict (into a new model, strictly, and through a file), deepcopy and pickle carry all that outputs depend on")
@torch.no_grad()
def round_trips(subject: ModelSubject, example: Example) -> None:
    model = subject.prepared(example)
    inputs, saved = subject.inputs(example), model.state_dict()
    require(all(isinstance(value, Tensor) for value in saved.values()), "state_dict holds something that is not a tensor")
    copies: dict[str, nn.Module] = {
        "state_dict": _restored(subject, example, saved),
        "torch.save of state_dict": _restored(subject, example, through_file(saved)),
        "deepcopy": copy.deepcopy(model),
        "pickle": pickle.loads(pickle.dumps(model)),  # noqa: S301 - made on the line itself
    }
    expected = subject.outputs(model, *inputs)
    for way, twin in copies.items():
        require(not twin.training, f"{way} changed the mode")
        for name, value in subject.outputs(twin, *inputs).items():
            require_equal(value, expected[name], f"{name} after {way}")


@law("M4", "float64 in gives float64, float32 gives float32 and the same number")
@torch.no_grad()
def precision(subject: ModelSubject, example: Example) -> None:
    model = subject.prepared(example)
    wide = subject.outputs(model, *subject.inputs(example))
    narrow = subject.outputs(model.float(), *subject.inputs(example, torch.float32))
    for name, value in wide.items():
        require(value.dtype == torch.float64, f"{name} of a model of float64: {value.dtype}")
        require(narrow[name].dtype == torch.float32, f"{name} of a model of float32: {narrow[name].dtype}")
        require_close(narrow[name], value, f"{name} in float32 and in float64", relative=SINGLE, absolute=1e-5)


@law("M5", "`.to(device)` moves all that it computes with (tried with the meta device)")
@torch.no_grad()
def moves_whole(subject: ModelSubject, example: Example) -> None:
    model = subject.prepared(example)
    inputs = subject.inputs(example)
    expected = subject.outputs(model, *inputs)
    _require_shapes(subject, model.to("meta"), inputs, expected)


@law(
    "M5",
    "built on the meta device, it has the parameters, buffers and output shapes that it has elsewhere",
    applies=lambda s: s.trained,
)
@torch.no_grad()
def built_on_meta(subject: ModelSubject, example: Example) -> None:
    model = subject.fresh(example).eval()
    inputs = subject.inputs(example, torch.float32)
    with torch.device("meta"):
        empty = subject.fresh(example).eval()
    shapes = {name: (tuple(value.shape), value.dtype) for name, value in model.state_dict().items()}
    found = {name: (tuple(value.shape), value.dtype) for name, value in empty.state_dict().items()}
    require(found == shapes, f"state_dict of a model built on meta: {sorted(set(found.items()) ^ set(shapes.items()))}")
    require(all(value.is_meta for value in empty.state_dict().values()), "a model built on meta has tensors elsewhere")
    _require_shapes(subject, empty, inputs, subject.outputs(model, *inputs))


def _require_shapes(subject: ModelSubject, model: nn.Module, inputs: Any, expected: dict[str, Tensor]) -> None:
    for name, value in subject.outputs(model, *mapped(inputs, lambda tensor: tensor.to("meta"))).items():
        require(value.is_meta, f"{name} of a model on meta is on {value.device}")
        same = value.shape == expected[name].shape and value.dtype == expected[name].dtype
        require(same, f"{name} on meta: {value.dtype} of shape {tuple(value.shape)}, expected {tuple(expected[name].shape)}")


def _restored(subject: ModelSubject, example: Example, saved: dict[str, Any]) -> nn.Module:
    other = subject.fresh(evolve(example, seed=example.seed + 2)).double().eval()
    other.load_state_dict(saved, strict=True)
    return other
