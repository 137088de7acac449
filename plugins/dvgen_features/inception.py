"""The 2015 Inception features, by two protocols; by one of them, their Frechet distance is FID."""

import io
from typing import final

import torch
from attrs import frozen
from einops import repeat
from torch import Tensor, nn
from torch.nn.functional import interpolate

from dvgen.blocks.weight_file import read_weight_file
from dvgen.errors import ConfigError, DataError, ShapeError
from dvgen.interfaces.features import Features
from dvgen.interfaces.weights import WeightFile

FILE = WeightFile(
    # the same weights as torch-fidelity and as pytorch-fid name them
    names=("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth"),
    sha256="6726825d",
    url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    need="FID needs the 2015 Inception weights",
    instead="--metric fd-clf,fd-rand (no file needed; NOT comparable with published FID)",
    mistaken={
        "0cc3c7bd": "torchvision's Inception (inception_v3_google-0cc3c7bd.pth), another network, of which there is no FID"
    },
)
ACROSS = 299


@final
class Inception(Features):
    """Images to the 2048 values of the last pooling layer of the 2015 TensorFlow Inception network, as in FID.

    The layers, the TensorFlow-1 resize to 299 x 299 and the scaling are torch-fidelity's: the protocol of the original TTUR
    code (Heusel et al. 2017), and that of torchmetrics only with its `antialias` off. All in float64, so that the batch
    size, TF32 and autocast do not show; 8-bit values are rounded, and grey is repeated to three channels.
    Raises DataError when the weights are missing or are not the ones that FID is defined by.
    """

    @frozen(kw_only=True)
    class Config:
        """Nothing to choose: another choice would not be FID."""

    dim = 2048
    label = "inception-2015"
    official = True
    weight_files = (FILE,)

    def __init__(self, config: Config, *, channels: int) -> None:
        super().__init__()
        self.channels = _checked_channels("inception", channels)
        self.layers, self.weights_hash = load_layers(FILE)

    def train(self, mode: bool = True) -> "Inception":
        """Stay in evaluation mode: batch statistics would make a feature depend on its batch."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, signals: Tensor) -> Tensor:
        from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

        x = _pixels("inception", signals, self.channels).double()
        x = interpolate_bilinear_2d_like_tensorflow1x(x, size=(ACROSS, ACROSS), align_corners=False)
        pooled: Tensor = self.layers((x - 128) / 128)
        return pooled.flatten(1)


@final
class InceptionOfPyTorchFID(Features):
    """The same network on images resized as pytorch-fid does, for comparison with numbers that were made with it. Not FID.

    Resized bilinearly about the centres of pixels, where TensorFlow 1 takes corners, and scaled to 2 x - 1, where
    TensorFlow has (255 x - 128) / 128; no antialiasing. Float64, rounding and grey as for `Inception`.
    Raises DataError as `Inception` does.
    """

    @frozen(kw_only=True)
    class Config:
        """Nothing to choose: another choice would not be pytorch-fid's number."""

    dim = 2048
    label = "inception-2015-pt"
    opt_in = True
    weight_files = (FILE,)

    def __init__(self, config: Config, *, channels: int) -> None:
        super().__init__()
        self.channels = _checked_channels("inception-pt", channels)
        self.layers, self.weights_hash = load_layers(FILE)

    def train(self, mode: bool = True) -> "InceptionOfPyTorchFID":
        """Stay in evaluation mode, as `Inception` does."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, signals: Tensor) -> Tensor:
        x = _pixels("inception-pt", signals, self.channels).double() / 255
        x = interpolate(x, size=(ACROSS, ACROSS), mode="bilinear", align_corners=False, antialias=False)
        pooled: Tensor = self.layers(2 * x - 1)
        return pooled.flatten(1)


def load_layers(file: WeightFile) -> tuple[nn.Sequential, str]:
    """The layers of torch-fidelity's Inception network up to the pooled features, with the weights of a file on this machine.

    They take images in colour, float64 (b, 3, 299, 299), resized and scaled. Also returned: the file's SHA-256.
    Raises DataError when there is no such file, when it has another SHA-256, and when it is not a table of its weights.
    """
    weights = read_weight_file(file)
    # the network reads its file as a pickle, which could run code: it is given one written here, of tensors only
    plain = io.BytesIO()
    torch.save(weights.table, plain)
    plain.seek(0)
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # seconds of imports

    with torch.random.fork_rng(devices=[]):  # its layers draw initial weights, which must not move the run's numbers
        try:
            network = FeatureExtractorInceptionV3("inception-2015", ["2048"], plain)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{weights.path}: not the weights of the 2015 Inception network: {reason}") from None
    # the layers stand in the order in which they are applied; the last, fc, comes after the pooled features. Used without
    # the network's own forward, which ends in float32, whatever precision was asked for (in 0.4.0, "float64" means float32)
    return nn.Sequential(*list(network.children())[:-1]).double(), weights.sha256


def _checked_channels(name: str, channels: int) -> int:
    if channels not in (1, 3):
        raise ConfigError(f"features {name!r} take images of 1 or 3 channels, got {channels}")
    return channels


def _pixels(name: str, signals: Tensor, channels: int) -> Tensor:
    """Images in colour, 8 bits rounded to the nearest: a cast alone brings a quarter of all grey levels back one lower."""
    if signals.ndim != 4 or signals.shape[1] != channels:
        raise ShapeError(f"features {name!r} expected images (b, {channels}, h, w), got {tuple(signals.shape)}")
    pixels = ((signals + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return repeat(pixels, "b c h w -> b (r c) h w", r=3 // channels)
