"""Quantizers that keep one bit of each channel."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """The quantizers `lfq`, `bsq`."""
    return [
        Component(
            "quantizer", "lfq", "dvgen_binary.lfq:LFQQuantizer", "the sign of each channel, with entropy losses; no codebook"
        ),
        Component(
            "quantizer",
            "bsq",
            "dvgen_binary.bsq:BSQQuantizer",
            "the signs of a point on the sphere, with entropy losses; no codebook",
        ),
    ]
