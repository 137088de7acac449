"""VQGAN (Esser et al., 2021): residual encoder and decoder with attention, patch discriminator, perceptual and adversarial losses."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """Nothing yet."""
    return []
