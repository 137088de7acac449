"""The discrete VAE of DALL-E (Ramesh et al., 2021): encoder, decoder and logit-Laplace loss."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """Encoder and decoder `dalle`, loss `logit-laplace`, and a recipe."""
    return [
        Component("encoder", "dalle", "dvgen_dalle.encoder:DALLEEncoder", "bottleneck blocks and max-pooling"),
        Component("decoder", "dalle", "dvgen_dalle.decoder:DALLEDecoder", "bottleneck blocks; makes logit-laplace"),
        Component("loss", "logit-laplace", "dvgen_dalle.loss:LogitLaplaceLoss", "likelihood of pixels in a bounded interval"),
        Component("recipe", "dalle-dvae", "dvgen_dalle:recipes/dalle-dvae.toml", "images of 256x256 pixels in 32x32 codes"),
    ]
