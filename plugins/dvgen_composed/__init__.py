"""Quantizers made of other quantizers, which are chosen by name."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """The quantizers `residual`, `product`, `projected`."""
    return [
        Component(
            "quantizer",
            "residual",
            "dvgen_composed.residual:ResidualQuantizer",
            "each level quantizes what the levels before leave over",
        ),
        Component(
            "quantizer", "product", "dvgen_composed.product:ProductQuantizer", "groups of channels, each quantized on its own"
        ),
        Component(
            "quantizer",
            "projected",
            "dvgen_composed.projected:ProjectedQuantizer",
            "linear maps before and after a quantizer of another width",
        ),
    ]
