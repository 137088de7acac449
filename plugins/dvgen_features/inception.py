"""The 2015 Inception features, whose Frechet distance is FID. Their file is looked for and never fetched."""

import io
from pathlib import Path
from typing import final

import torch
from attrs import frozen
from einops import repeat
from torch import Tensor, nn

from dvgen.blocks.weight_file import find_weight_file, load_weight_file
from dvgen.errors import ConfigError, DataError, ShapeError
from dvgen.interfaces.features import Features

NAMES = ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth")
"""The same weights as torch-fidelity and as pytorch-fid name them; the last part is the start of their SHA-256."""

EXPECTED_HASH = "6726825d"

URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"

INSTEAD = "use features 'rand' (no file needed; NOT comparable with published FID)"

OTHERWISE = (
    f"the weights that FID is defined by (torchvision's Inception is another network), or the file is damaged; get {URL}"
)


@final
class Inception(Features):
    """Images to the 2048 values of the last pooling layer of the 2015 TensorFlow Inception network, as in FID.

    The network, its TensorFlow-1 resize to 299 x 299 and its scaling are torch-fidelity's: the protocol of the original
    TTUR code (Heusel et al. 2017). It runs in float64, so that the batch size, TF32 and autocast do not show; 8-bit
    values are rounded, and grey is repeated to three channels.
    Raises DataError when the weights are missing or are not the ones that FID is defined by.
    """

    @frozen(kw_only=True)
    class Config:
        """Nothing to choose: another choice would not be FID."""

    dim = 2048
    label = "inception-2015"
    official = True

    def __init__(self, config: Config, *, channels: int) -> None:
        super().__init__()
        if channels not in (1, 3):
            raise ConfigError(f"features 'inception' take images of 1 or 3 channels, got {channels}")
        self.channels = channels
        self.network, self.weights_hash = load_network(find_weights(), EXPECTED_HASH)

    def train(self, mode: bool = True) -> "Inception":
        """Stay in evaluation mode: batch statistics would make a feature depend on its batch."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, signals: Tensor) -> Tensor:
        if signals.ndim != 4 or signals.shape[1] != self.channels:
            raise ShapeError(f"features 'inception' expected images (b, {self.channels}, h, w), got {tuple(signals.shape)}")
        pixels = ((signals + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        (pooled,) = self.network(repeat(pixels, "b c h w -> b (r c) h w", r=3 // self.channels))
        return pooled.double()


def find_weights() -> Path:
    """The first weights file that exists, in $DVGEN_WEIGHTS and then in torch's download folder; else DataError."""
    need = "FID needs the 2015 Inception weights"
    return find_weight_file(NAMES, need=need, url=URL, instead=INSTEAD)


def load_network(path: Path, expected_hash: str) -> tuple[nn.Module, str]:
    """torch-fidelity's Inception network with the weights of a file, and the file's SHA-256.

    Raises DataError when the SHA-256 does not begin with `expected_hash`, or the file is not a plain table of weights.
    """
    weights = load_weight_file(path, expected_hash, otherwise=OTHERWISE)
    # the network reads its file as a pickle, which could run code: it is given one written here, of tensors only
    plain = io.BytesIO()
    torch.save(weights.table, plain)
    plain.seek(0)
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # seconds of imports

    with torch.random.fork_rng(devices=[]):  # its layers draw initial weights, which must not move the run's numbers
        try:
            network = FeatureExtractorInceptionV3("inception-2015", ["2048"], plain, "float64")
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{path}: not the weights of the 2015 Inception network: {reason}") from None
    return network, weights.sha256
