"""What encoder and decoder of one map share: a small config."""

from dvgen.blocks.strided import Convolutions

TINY = Convolutions(channels=8, residual_channels=4, residual_blocks=1, downsample=2)
