"""VQ-VAE-2 (Razavi et al., 2019): encoder and decoder with several maps, finer ones conditioned on coarser ones."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """Encoder and decoder `vqvae2`, and recipes."""
    return [
        Component("encoder", "vqvae2", "dvgen_vqvae2.encoder:VQVAE2Encoder", "several maps; finer ones see coarser vectors"),
        Component("decoder", "vqvae2", "dvgen_vqvae2.decoder:VQVAE2Decoder", "several maps decoded together"),
        _recipe("vqvae2-ffhq256", "faces of 256x256 pixels in 64x64 and 32x32 codes"),
        _recipe("vqvae2-imagenet256", "ImageNet of 256x256 pixels in 64x64 and 32x32 codes"),
        _recipe("vqvae2-tiny", "any images of 32x32 pixels in 8x8 and 4x4 codes, in minutes on two CPU cores"),
    ]


def _recipe(name: str, summary: str) -> Component:
    return Component("recipe", name, f"dvgen_vqvae2:recipes/{name}.toml", summary)
