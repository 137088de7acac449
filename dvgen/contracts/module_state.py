"""Everything that a module carries from one call to the next, so that two moments can be compared."""

import io
from typing import Any

import torch
from torch import Tensor, nn

from dvgen.contracts.law import require, require_equal


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """A copy of all parameters and buffers, those that are not saved included."""
    named = dict(module.named_parameters()) | dict(module.named_buffers())
    return {name: value.detach().clone() for name, value in named.items()}


def plain_values(module: nn.Module) -> dict[str, Any]:
    """Attributes that are neither parameters nor buffers but may be state: numbers, texts, tensors (as lists)."""
    found: dict[str, Any] = {}
    for prefix, part in module.named_modules():
        for name, value in vars(part).items():
            if isinstance(value, Tensor):
                found[f"{prefix}.{name}"] = value.tolist()
            elif isinstance(value, (int, float, str, bytes)) or value is None:
                found[f"{prefix}.{name}"] = value
    return found


def through_file(saved: dict[str, Any]) -> dict[str, Any]:
    """What is read back of a state that was written to a file."""
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def require_state(module: nn.Module, expected: dict[str, Tensor], when: str) -> None:
    """Raise Broken unless parameters and buffers are these, bit for bit."""
    found = state_of(module)
    require(found.keys() == expected.keys(), f"names of parameters and buffers {when}: {sorted(found)}")
    for name, value in found.items():
        require_equal(value, expected[name], f"{name} {when}")
