"""VQ-VAE (van den Oord et al., 2017): encoder, decoder, straight-through quantizer, reconstruction losses."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """Encoders and decoders `vqvae` and `vqvae-1d`, quantizer `vq`, losses `mse` and `l1`, and recipes."""
    return [
        Component("encoder", "vqvae", "dvgen_vqvae.encoder:VQVAEEncoder", "strided convolutions and residual blocks"),
        Component("decoder", "vqvae", "dvgen_vqvae.decoder:VQVAEDecoder", "residual blocks and transposed convolutions"),
        Component("encoder", "vqvae-1d", "dvgen_vqvae.waves:WaveEncoder", "`vqvae` over one axis, for sound"),
        Component("decoder", "vqvae-1d", "dvgen_vqvae.waves:WaveDecoder", "`vqvae` over one axis, for sound"),
        Component("quantizer", "vq", "dvgen_vqvae.quantizer:VQQuantizer", "nearest code; codebook by gradient"),
        Component("loss", "mse", "dvgen_vqvae.losses:MSELoss", "mean squared error"),
        Component("loss", "l1", "dvgen_vqvae.losses:L1Loss", "mean absolute error"),
        Component(
            "recipe", "vqvae-cifar10", "dvgen_vqvae:recipes/vqvae-cifar10.toml", "CIFAR-10 in 8x8 codes, with a gated PixelCNN"
        ),
        Component(
            "recipe",
            "vqvae-tiny",
            "dvgen_vqvae:recipes/vqvae-tiny.toml",
            "any images of 32x32 pixels, in minutes on two CPU cores",
        ),
    ]
