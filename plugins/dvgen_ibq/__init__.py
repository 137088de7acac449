"""Index backpropagation (Shi et al., 2024): every code gets a gradient at every step."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """The quantizer `ibq`."""
    return [
        Component(
            "quantizer", "ibq", "dvgen_ibq.quantizer:IBQQuantizer", "code of the largest product; gradients reach all codes"
        ),
    ]
