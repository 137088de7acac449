"""LPIPS as it is reported: AlexNet, version 0.1, when its weights are on this machine."""

from typing import final

import torch
from torch import Tensor
from torch.nn.functional import pad

from dvgen.blocks.lpips_network import TRUNKS, load_lpips
from dvgen.blocks.weight_file import present_weight_file
from dvgen.errors import ShapeError
from dvgen.evaluation.measurement import Key
from dvgen.evaluation.reconstruction import check_pair, from_uint8, to_uint8

NET = "alex"
PADDED = 32
"""What smaller images are padded to, evenly, with the values of their edges: AlexNet takes none below 31 pixels across."""


@final
class LPIPS:
    """The perceptual distance of Zhang et al. 2018 (arXiv 1801.03924), equation 1, of pairs of images of one size (h, w)."""

    def __init__(self, size: tuple[int, ...]) -> None:
        self.size = size
        self.network = load_lpips(NET).eval()

    @staticmethod
    def takes(shape: tuple[int, ...]) -> bool:
        """Whether signals of this shape are images of 1 or 3 channels, and the weights are there."""
        return len(shape) == 3 and shape[0] in (1, 3) and present_weight_file(TRUNKS[NET].weight_file) is not None

    @torch.no_grad()
    def __call__(self, reconstructed: Tensor, signals: Tensor) -> Tensor:
        """Of each image (b, 1 or 3, h, w) in [-1, 1], both rounded to 8 bits: (b,) float64, 0 for equal ones.

        Grey is repeated to three channels. Raises ShapeError for other shapes.
        """
        check_pair(reconstructed, signals)
        if signals.ndim != 4 or tuple(signals.shape[2:]) != self.size or signals.shape[1] not in (1, 3):
            raise ShapeError(f"LPIPS expected images (b, 1 or 3, {', '.join(map(str, self.size))}), got {tuple(signals.shape)}")
        pair = (self._prepared(images) for images in (reconstructed, signals))
        return self.network.to(signals.device)(*pair).flatten().double()

    def key(self, data: str, split: str) -> Key:
        """The key of a mean LPIPS; data: identity (a hash) of data set and transform."""
        padding = f"edges, to {PADDED} across" if any(self._padding()) else "none"
        protocol = {
            "data": data,
            "split": split,
            "rounding": "8 bits, nearest",
            "mean": "of images' LPIPS",
            "network": f"{NET}, version 0.1",
            "weights": TRUNKS[NET].expected_hash,
            "padding": padding,
        }
        return Key("LPIPS", "", protocol)

    def _prepared(self, images: Tensor) -> Tensor:
        rounded = from_uint8(to_uint8(images)).expand(-1, 3, -1, -1)
        return pad(rounded, self._padding(), mode="replicate")

    def _padding(self) -> list[int]:
        """Pixels left, right, above and below."""
        missing = [PADDED - pixels if pixels < TRUNKS[NET].least else 0 for pixels in reversed(self.size)]
        return [part for pixels in missing for part in (pixels // 2, pixels - pixels // 2)]
