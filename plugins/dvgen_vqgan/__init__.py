"""VQGAN (Esser et al., 2021): encoder and decoder with attention, patch discriminator, perceptual and adversarial losses."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """Encoder and decoder `vqgan`, the discriminator `patchgan`, adversarial losses, perceptual losses, recipes."""
    return [
        Component("encoder", "vqgan", "dvgen_vqgan.encoder:VQGANEncoder", "residual blocks and attention, ever smaller maps"),
        Component("decoder", "vqgan", "dvgen_vqgan.decoder:VQGANDecoder", "residual blocks and attention, ever larger maps"),
        Component(
            "discriminator", "patchgan", "dvgen_vqgan.patchgan:PatchGAN", "pix2pix's: a logit for each 70x70 patch of an image"
        ),
        Component(
            "adversarial-loss", "hinge", "dvgen_vqgan.adversarial:HingeLoss", "hinge loss and minus the mean logit, as in VQGAN"
        ),
        Component(
            "adversarial-loss",
            "nonsaturating",
            "dvgen_vqgan.adversarial:NonSaturatingLoss",
            "cross-entropy, non-saturating (2014)",
        ),
        Component("loss", "lpips", "dvgen_vqgan.perceptual:LPIPSLoss", "LPIPS with VGG, AlexNet or SqueezeNet; needs its file"),
        Component(
            "loss",
            "lpips-untrained",
            "dvgen_vqgan.perceptual:UntrainedLPIPSLoss",
            "LPIPS' formula on random weights: NOT perceptual; no file",
        ),
        _recipe("vqgan-imagenet-f16", "ImageNet of 256x256 pixels in 16x16 codes"),
        _recipe("vqgan-faceshq", "faces of 256x256 pixels in 16x16 codes"),
        _recipe("vqgan-gumbel-f8", "photographs of 256x256 pixels in 32x32 codes, by Gumbel-softmax"),
        _recipe("vqgan-vqvae2-hierarchy", "ImageNet of 256x256 pixels in 64x64 and 32x32 codes"),
        _recipe("vqgan-tiny", "any images of 32x32 pixels in 8x8 codes, in minutes on two CPU cores"),
    ]


def _recipe(name: str, summary: str) -> Component:
    return Component("recipe", name, f"dvgen_vqgan:recipes/{name}.toml", summary)
