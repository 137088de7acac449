"""Features of DINOv2 (Oquab et al. 2023, arXiv 2304.07193), as FD-DINOv2 is measured with them (Stein et al. 2023)."""

from typing import final

import numpy as np
import torch
from attrs import frozen
from einops import rearrange, repeat
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, scaled_dot_product_attention

from dvgen.blocks.weight_file import Weights, read_weight_file
from dvgen.errors import ConfigError, DataError, ShapeError
from dvgen.interfaces.features import Features
from dvgen.interfaces.weights import WeightFile

FILE = WeightFile(
    names=("dinov2_vitl14_pretrain.pth",),
    sha256="d5383ea8f4877b24",
    url="https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
    need="FD-DINOv2 needs the weights of DINOv2 ViT-L/14",
    instead="--metric fd-clf,fd-rand (no file needed; NOT comparable with published FD-DINOv2)",
)
ACROSS = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the colours of ImageNet."""
HEAD = 64
"""Width of an attention head in every DINOv2."""
EPSILON = 1e-6
OFFSET = 0.1
"""What the published network adds to the number of patches when it stretches its positions, which moves them a little."""


@final
class DINOv2Features(Features):
    """Images to the 1024 values of DINOv2 ViT-L/14's normalised class token.

    The protocol of dgm-eval (Stein et al. 2023, arXiv 2306.04675): 8 bits, Pillow's bicubic resize to 224 x 224, which
    rounds to 8 bits again, and the mean and deviation of ImageNet; grey is repeated to three channels. torch-fidelity's
    DINOv2 resizes otherwise, and its values are others. In float32 as there, and never in autocast.
    Raises DataError when the weights are missing or are others.
    """

    @frozen(kw_only=True)
    class Config:
        """Nothing to choose: another choice would not be FD-DINOv2."""

    dim = 1024
    label = "dinov2-vitl14"
    opt_in = True
    weight_files = (FILE,)

    def __init__(self, config: Config, *, channels: int) -> None:
        super().__init__()
        if channels not in (1, 3):
            raise ConfigError(f"features 'dinov2' take images of 1 or 3 channels, got {channels}")
        self.channels = channels
        weights = read_weight_file(FILE)
        self.network = _network(weights)
        self.dim = self.network.norm.weight.shape[0]
        self.weights_hash = weights.sha256

    @torch.no_grad()
    def forward(self, signals: Tensor) -> Tensor:
        if signals.ndim != 4 or signals.shape[1] != self.channels:
            raise ShapeError(f"features 'dinov2' expected images (b, {self.channels}, h, w), got {tuple(signals.shape)}")
        pixels = ((signals + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        x = _resized(repeat(pixels, "b c h w -> b (r c) h w", r=3 // self.channels)).to(signals.device) / 255
        mean, std = (rearrange(torch.tensor(values, device=x.device), "c -> c 1 1") for values in (MEAN, STD))
        with torch.autocast(x.device.type, enabled=False):
            tokens: Tensor = self.network((x - mean) / std)
        return tokens


class _VisionTransformer(nn.Module):
    """Images (b, 3, h, w) to the normalised class token (b, width); its state has the names of the published files."""

    def __init__(self, width: int, depth: int, patch: int, positions: int) -> None:
        super().__init__()
        self.patch = patch
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, positions, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))  # of training; unused here
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, stride=patch)})
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=EPSILON)

    def forward(self, images: Tensor) -> Tensor:
        patches = rearrange(self.patch_embed["proj"](images), "b d h w -> b h w d")
        grid = patches.shape[1:3]
        x = torch.cat([repeat(self.cls_token, "1 1 d -> b 1 d", b=len(images)), patches.flatten(1, 2)], dim=1)
        x = x + self._positions(grid)
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, 0])

    def _positions(self, grid: torch.Size) -> Tensor:
        """The learned positions (1, 1 + h w, width), those of the patches stretched to another grid."""
        first, learned = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        side = round(learned.shape[1] ** 0.5)
        if tuple(grid) == (side, side):
            return self.pos_embed
        square = rearrange(learned, "1 (h w) d -> 1 d h w", h=side)
        scale = [(length + OFFSET) / side for length in grid]
        stretched = interpolate(square, scale_factor=scale, mode="bicubic", align_corners=False)
        return torch.cat([first, rearrange(stretched, "1 d h w -> 1 (h w) d")], dim=1)


class _Block(nn.Module):
    """x + scale1 * attention(norm(x)), then x + scale2 * mlp(norm(x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=EPSILON), nn.LayerNorm(width, eps=EPSILON)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.ls1, self.ls2 = (nn.ParameterDict({"gamma": nn.Parameter(torch.ones(width))}) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.attn["qkv"](self.norm1(x)), "b t (three h d) -> three b h t d", three=3, d=HEAD)
        mixed = rearrange(scaled_dot_product_attention(q, k, v), "b h t d -> b t (h d)")
        x = x + self.ls1["gamma"] * self.attn["proj"](mixed)
        return x + self.ls2["gamma"] * self.mlp["fc2"](gelu(self.mlp["fc1"](self.norm2(x))))


def _network(weights: Weights) -> _VisionTransformer:
    """The network whose sizes are those of its weights. Raises DataError for weights of something else."""
    table = weights.table
    try:
        width, _, patch, _ = table["patch_embed.proj.weight"].shape
        depth = 1 + max(int(name.split(".")[1]) for name in table if name.startswith("blocks."))
        with torch.device("meta"):  # nothing is drawn
            network = _VisionTransformer(width, depth, patch, table["pos_embed"].shape[1])
        network.load_state_dict({name: tensor.float() for name, tensor in table.items()}, assign=True)
    except (KeyError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{weights.path}: not the weights of a DINOv2 vision transformer: {reason}") from None
    return network.requires_grad_(False).eval()


def _resized(pixels: Tensor) -> Tensor:
    """uint8 (b, 3, h, w) to (b, 3, 224, 224) by Pillow: no other bicubic resize gives all of its bytes."""
    images = rearrange(pixels.cpu(), "b c h w -> b h w c").numpy()
    resized = [np.asarray(Image.fromarray(image).resize((ACROSS, ACROSS), Image.Resampling.BICUBIC)) for image in images]
    return rearrange(torch.from_numpy(np.stack(resized)), "b h w c -> b c h w")
