"""The codebook learned by exponential moving averages (VQ-VAE, appendix A.1)."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """The quantizer `ema`."""
    return [Component("quantizer", "ema", "dvgen_ema.quantizer:EMAQuantizer", "nearest code; codebook by moving averages")]
