"""The discrete VAE of DALL-E (Ramesh et al., 2021): encoder, decoder and logit-Laplace loss."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """Nothing yet."""
    return []
