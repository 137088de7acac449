"""Rules for registered quantizers that are not of the contract: how bad input is told, and what the optimiser gets."""

from typing import Any

import pytest
import torch

from dvgen.assembly import build
from dvgen.config import unstructure
from dvgen.discovery import discover
from dvgen.errors import ShapeError
from dvgen.experiment import Choice
from dvgen.interfaces.quantizer import Quantizer

REGISTRY = discover().registry


@pytest.fixture(params=REGISTRY.names("quantizer"))
def quantizer(request: pytest.FixtureRequest) -> Any:
    tiny = REGISTRY.load("quantizer", request.param).tiny()
    return build(REGISTRY, "quantizer", Choice(use=request.param, fields=unstructure(tiny)))


def test_wrong_shapes_raise(quantizer: Quantizer) -> None:
    z = torch.randn(6, quantizer.dim, 3, 4)
    for wrong in (z[:, :-1], z[:, :, 0, 0], z.long()):
        with pytest.raises(ShapeError, match="features"):
            quantizer(wrong)
    for mask in (torch.ones(6, 4, 3, dtype=torch.bool), torch.ones(6, 3, 4)):
        with pytest.raises(ShapeError, match="mask"):
            quantizer(z, mask)


def test_every_parameter_stands_in_one_group(quantizer: Quantizer) -> None:
    grouped = [id(parameter) for group in quantizer.parameter_groups() for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in quantizer.parameters())
