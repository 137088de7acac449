"""PixelSNAIL (Chen et al., 2018): causal convolutions and attention, as a prior over codes."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """The prior `pixelsnail`."""
    return [Component("prior", "pixelsnail", "dvgen_pixelsnail.prior:PixelSNAIL", "causal gated convolutions with attention")]
