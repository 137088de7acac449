"""Finite scalar quantization (Mentzer et al., 2023): no codebook, each channel rounded to a few levels."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """The quantizer `fsq`."""
    return [
        Component(
            "quantizer", "fsq", "dvgen_fsq.quantizer:FSQQuantizer", "channels bounded and rounded to a few levels; no codebook"
        ),
    ]
