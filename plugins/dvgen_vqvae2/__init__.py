"""VQ-VAE-2 (Razavi et al., 2019): encoder and decoder with several maps, finer ones conditioned on coarser ones."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """Nothing yet."""
    return []
