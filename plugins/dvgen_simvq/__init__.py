"""SimVQ (Zhu et al., 2024): a frozen random codebook under one learned linear map."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """The quantizer `simvq`."""
    return [
        Component(
            "quantizer",
            "simvq",
            "dvgen_simvq.quantizer:SimVQQuantizer",
            "frozen codebook, learned linear map",
        ),
    ]
