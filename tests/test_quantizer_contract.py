"""Rule: every registered quantizer keeps every property of the contract that applies to it, and declares what it is."""

from collections.abc import Callable

import pytest

from dvgen.assembly import build
from dvgen.config import unstructure
from dvgen.contracts.pytest_quantizer import quantizer_contract
from dvgen.discovery import discover
from dvgen.experiment import Choice
from dvgen.interfaces.quantizer import Quantizer, Traits

REGISTRY = discover().registry

NEAREST = Traits(estimator="straight-through", nearest=True, idempotent=True, table=True)
DECLARED = {
    "bsq": Traits(estimator="smooth", nearest=True, idempotent=True),
    "cosine": Traits(estimator="smooth", idempotent=True, table=True),
    "ema": NEAREST,
    "fsq": Traits(estimator="smooth"),
    "gumbel": Traits(estimator="softmax", table=True),
    "ibq": Traits(estimator="softmax", table=True),
    "lfq": Traits(estimator="straight-through", nearest=True, idempotent=True),
    "product": Traits(estimator="straight-through", nearest=True, idempotent=True, composition="product"),
    "projected": Traits(estimator="smooth"),
    "residual": Traits(estimator="straight-through", composition="residual"),
    "simvq": Traits(estimator="straight-through", nearest=True, idempotent=True),
    "vq": NEAREST,
}
"""What each quantizer is, written down a second time: a change of what one declares is a decision, not an accident."""

VARIANTS = {
    "ema-rotation": Choice(use="ema", fields={"num_codes": 4, "dim": 3, "estimator": "rotation"}),
    "fsq-coarse": Choice(use="fsq", fields={"levels_per_channel": [3, 2]}),
    "fsq-factors": Choice(use="fsq", fields={"levels_per_channel": [3, 4, 2], "factors": 2}),
    "lfq-factors": Choice(use="lfq", fields={"bits": 4, "factors": 2}),
    "residual-vq": Choice(use="residual", fields={"levels": 3, "inner": {"use": "vq", "num_codes": 4, "dim": 2}}),
    "product-gumbel": Choice(use="product", fields={"groups": 2, "inner": {"use": "gumbel", "num_codes": 3, "dim": 2}}),
    "projected-fsq": Choice(use="projected", fields={"dim": 4, "inner": {"use": "fsq", "levels_per_channel": [3, 4]}}),
}
"""Other configs worth a full run: estimators, factors, and compositions."""


def tiny(name: str) -> Choice:
    """A quantizer of this name, its config as small as it gives one."""
    return Choice(use=name, fields=unstructure(REGISTRY.load("quantizer", name).tiny()))


def maker(choice: Choice) -> Callable[[], Quantizer]:
    return lambda: build(REGISTRY, "quantizer", choice)


def contract(name: str, choice: Choice) -> type:
    return quantizer_contract(maker(choice))(type(f"Test_{name.replace('-', '_')}", (), {"__module__": __name__}))


for _name, _choice in ({name: tiny(name) for name in DECLARED} | VARIANTS).items():
    globals()[f"Test_{_name.replace('-', '_')}"] = contract(_name, _choice)


def test_every_registered_quantizer_is_under_contract() -> None:
    assert set(DECLARED) == set(REGISTRY.names("quantizer"))


@pytest.mark.parametrize("name", DECLARED)
def test_each_declares_what_it_is(name: str) -> None:
    assert maker(tiny(name))().traits == DECLARED[name]
