"""What encoder and decoder of one map share: a small config, and the width of the map."""

from dvgen.blocks.strided import Convolutions
from dvgen.errors import ConfigError

TINY = Convolutions(channels=8, residual_channels=4, residual_blocks=1, downsample=2)


def single_width(dims: tuple[int, ...], part: str) -> int:
    """The width of the one map. Raises ConfigError when there are several."""
    if len(dims) != 1:
        raise ConfigError(f"{part}: vqvae makes one map and takes one quantizer, not {len(dims)}; choose a hierarchical {part}")
    return dims[0]
