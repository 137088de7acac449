"""The Gumbel-softmax quantizer (the discrete VAE of DALL-E and of VQGAN's Gumbel variant)."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """The quantizer `gumbel`."""
    return [
        Component("quantizer", "gumbel", "dvgen_gumbel.quantizer:GumbelQuantizer", "codes sampled by Gumbel-softmax, with KL")
    ]
