"""The codebook learned by exponential moving averages (VQ-VAE, appendix A.1)."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """The quantizers `cosine`, `ema`."""
    return [
        Component("quantizer", "ema", "dvgen_ema.quantizer:EMAQuantizer", "nearest code; codebook by moving averages"),
        Component("quantizer", "cosine", "dvgen_ema.cosine:CosineQuantizer", "nearest direction; codebook by moving averages"),
    ]
