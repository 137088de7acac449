"""The residual blocks of VQ-VAE's encoder and decoder."""

from typing import final

from torch import Tensor, nn
from torch.nn import functional as F

CONVOLUTIONS: dict[int, type[nn.Conv1d | nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}


@final
class ResidualBlock(nn.Module):
    """ReLU, 3-wide convolution, ReLU, 1-wide convolution, added to its input; (b, channels, *grid) of 1 or 2 axes to the same.

    VQ-VAE (van den Oord et al., 2017), section 4.1.
    """

    def __init__(self, channels: int, residual_channels: int, *, axes: int = 2) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[axes]
        self.wide = convolution(channels, residual_channels, kernel_size=3, padding=1)
        self.narrow = convolution(residual_channels, channels, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """features (b, channels, *grid)."""
        return features + self.narrow(F.relu(self.wide(F.relu(features))))


def residual_stack(channels: int, residual_channels: int, blocks: int, *, axes: int = 2) -> nn.Sequential:
    """`blocks` residual blocks and the ReLU that ends the stack."""
    return nn.Sequential(*(ResidualBlock(channels, residual_channels, axes=axes) for _ in range(blocks)), nn.ReLU())
