"""Attention between all positions of a map."""

from typing import final

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from dvgen_vqgan.resnet import group_norm


@final
class Attention(nn.Module):
    """x + W softmax(q k^T / sqrt(channels)) v over the h * w positions, q, k and v 1x1 convolutions of norm(x).

    One head, as wide as the map: the "non-local block" of Esser et al. (2021), table 7. (b, channels, h, w) to the same;
    no position is told from another. Time grows with (h * w)^2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, kernel_size=1)
        self.project = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """features (b, channels, h, w)."""
        query, keys, values = rearrange(self.qkv(self.norm(features)), "b (three c) h w -> three b 1 (h w) c", three=3)
        attended = F.scaled_dot_product_attention(query, keys, values)
        return features + self.project(rearrange(attended, "b 1 (h w) c -> b c h w", h=features.shape[2]))
