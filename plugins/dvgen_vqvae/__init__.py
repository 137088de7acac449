"""VQ-VAE (van den Oord et al., 2017): encoder, decoder, straight-through quantizer, reconstruction losses."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """Encoder and decoder `vqvae`, quantizer `vq`, losses `mse` and `l1`."""
    return [
        Component("encoder", "vqvae", "dvgen_vqvae.encoder:VQVAEEncoder", "strided convolutions and residual blocks"),
        Component("decoder", "vqvae", "dvgen_vqvae.decoder:VQVAEDecoder", "residual blocks and transposed convolutions"),
        Component("quantizer", "vq", "dvgen_vqvae.quantizer:VQQuantizer", "nearest code; codebook by gradient"),
        Component("loss", "mse", "dvgen_vqvae.losses:MSELoss", "mean squared error"),
        Component("loss", "l1", "dvgen_vqvae.losses:L1Loss", "mean absolute error"),
    ]
