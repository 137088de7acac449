"""The residual blocks of VQ-VAE's encoder and decoder."""

from typing import final

from torch import Tensor, nn
from torch.nn import functional as F


@final
class ResidualBlock(nn.Module):
    """ReLU, 3x3 convolution, ReLU, 1x1 convolution, added to its input; (b, channels, h, w) to the same.

    VQ-VAE (van den Oord et al., 2017), section 4.1.
    """

    def __init__(self, channels: int, residual_channels: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(channels, residual_channels, kernel_size=3, padding=1)
        self.narrow = nn.Conv2d(residual_channels, channels, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """features (b, channels, h, w)."""
        return features + self.narrow(F.relu(self.wide(F.relu(features))))


def residual_stack(channels: int, residual_channels: int, blocks: int) -> nn.Sequential:
    """`blocks` residual blocks and the ReLU that ends the stack."""
    return nn.Sequential(*(ResidualBlock(channels, residual_channels) for _ in range(blocks)), nn.ReLU())
