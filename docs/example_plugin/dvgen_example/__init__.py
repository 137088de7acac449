"""What this plugin supplies. It imports no torch, so that listing stays fast."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """The quantizer `round`."""
    return [Component("quantizer", "round", "dvgen_example.quantizer:RoundQuantizer", "channels rounded; no codebook")]
