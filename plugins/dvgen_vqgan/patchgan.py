"""The patch discriminator of pix2pix, which VQGAN plays against."""

from collections.abc import Callable
from typing import Any, final

import attrs
from attrs import field, frozen
from attrs.validators import ge, in_, le
from torch import Tensor, nn

from dvgen.blocks.weight_decay import decayed_weights
from dvgen.errors import ShapeError
from dvgen.interfaces.discriminator import Discriminator
from dvgen_vqgan.resnet import group_norm

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "group": group_norm,
    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
    "none": lambda channels: nn.Identity(),
}
WIDEST = 8  # times `channels`, however many layers there are


@final
class PatchGAN(Discriminator):
    """Images (b, channels, h, w) to logits (b, 1, h', w'), each of which sees one patch: 70 x 70 pixels for 3 layers.

    Isola et al. 2017 (pix2pix), appendix 6.1.2; VQGAN's discriminator. `layers` 4x4 convolutions of stride 2, two of
    stride 1, LeakyReLU of slope 0.2, no norm after the first convolution; weights from N(0, 0.02^2).
    h' = floor(h / 2^layers) - 2. Raises ShapeError for images so small that no logit is left.

    With the norm "batch", in training, a logit depends on the whole batch that one call sees. Two micro-batches are then
    not one large batch, each rank has statistics of its own, real and reconstructed images are judged by different
    statistics, and the running ones follow both. The other norms have none of this.
    """

    @frozen(kw_only=True)
    class Config:
        """layers: convolutions of stride 2. channels: width of the first; doubled by each next layer, up to eightfold.

        norm: "batch" (the papers'), "group" (`group_norm`, of up to 32 groups), "instance" or "none".
        """

        layers: int = field(default=3, validator=[ge(1), le(8)])
        channels: int = field(default=64, validator=[ge(1), le(4096)])
        norm: str = field(default="batch", validator=in_(tuple(NORMS)))

    def __init__(self, config: Config, *, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.num_strided = config.layers
        widths = [config.channels * min(2**i, WIDEST) for i in range(config.layers + 1)]
        strides = [2] * (config.layers - 1) + [1]
        layers: list[nn.Module] = [_convolution(channels, widths[0], stride=2), nn.LeakyReLU(0.2)]
        for i, stride in enumerate(strides):
            # a bias before a norm would be subtracted again
            layers.append(_convolution(widths[i], widths[i + 1], stride=stride, bias=config.norm == "none"))
            layers += [NORMS[config.norm](widths[i + 1]), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, _convolution(widths[-1], 1, stride=1))
        self.layers.apply(_initialise)

    @classmethod
    def tiny(cls) -> Config:
        """One layer of four channels: patches of 16 x 16 pixels."""
        return cls.Config(layers=1, channels=4)

    @classmethod
    def scaled(cls, config: Config, width: float) -> Config:
        """`channels` multiplied, at least 1."""
        return attrs.evolve(config, channels=max(1, round(config.channels * width)))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weight decay on the convolutions' weights alone."""
        return decayed_weights(self)

    def forward(self, signals: Tensor) -> Tensor:
        if signals.ndim != 4 or signals.shape[1] != self.channels:
            raise ShapeError(f"patchgan judges images (b, {self.channels}, h, w) and nothing else, got {tuple(signals.shape)}")
        least = 3 * 2**self.num_strided
        if min(signals.shape[2:]) < least:
            raise ShapeError(
                f"patchgan of layers = {self.num_strided} takes images of at least {least} x {least}, got "
                f"{signals.shape[2]} x {signals.shape[3]}; lower adversarial.discriminator.layers"
            )
        return self.layers(signals)


def _convolution(inputs: int, outputs: int, *, stride: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=4, stride=stride, padding=1, bias=bias)


def _initialise(module: nn.Module) -> None:
    """Weights of convolutions from N(0, 0.02^2), of norms from N(1, 0.02^2), biases 0: DCGAN's, which pix2pix took over."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm | nn.InstanceNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
