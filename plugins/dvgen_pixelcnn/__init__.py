"""Gated PixelCNN (van den Oord et al., 2016), as a prior over codes."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """The prior `pixelcnn`."""
    return [Component("prior", "pixelcnn", "dvgen_pixelcnn.prior:PixelCNN", "gated convolutions in two stacks, no blind spot")]
