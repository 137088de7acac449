"""GPT: a pre-norm transformer decoder, as a prior over codes."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """The prior `gpt`."""
    return [Component("prior", "gpt", "dvgen_gpt.prior:GPT", "transformer decoder over the codes in raster order")]
