"""The decoder of DALL-E's discrete VAE: a distribution of each channel of each pixel."""

from typing import Any, cast, final

from torch import Tensor, nn

from dvgen.blocks.strided import single_width
from dvgen.blocks.weight_decay import decayed_weights
from dvgen.interfaces.autoencoder import Decoder
from dvgen_dalle.convolutions import TINY, GroupConvolutions, convolution, groups
from dvgen_dalle.pixels import from_open_interval, halves


@final
class DALLEDecoder(Decoder):
    """Groups of bottleneck blocks with nearest upsampling between them, ReLU, a 1x1 convolution to mu and ln b.

    Vectors (b, dims[0], *grid) to (b, 2 * channels, h, w): first mu of every channel, then ln b, of the logit-Laplace
    distribution of the pixel mapped to (0.1, 0.9). Ramesh et al. (2021), appendices A.1 and A.3. The first convolution there,
    1x1 from one-hot codes, is the codebook, so that dims[0] is its width, 128. `downsample` must be that of the encoder.
    """

    Config = GroupConvolutions
    makes = "logit-laplace"

    def __init__(self, config: GroupConvolutions, *, channels: int, dims: tuple[int, ...]) -> None:
        super().__init__()
        widths = config.widths[::-1]
        self.groups = nn.ModuleList(groups(single_width(dims, "decoder", "dalle"), widths, config.blocks, (1, 3, 3, 3)))
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.relu = nn.ReLU()
        self.last = convolution(widths[-1], 2 * channels, 1)

    @property
    def last_layer(self) -> nn.Parameter:
        """The weight of the layer that makes mu and ln b; a property, because a second name would save it twice."""
        return cast(nn.Parameter, self.last.weight)

    @classmethod
    def tiny(cls) -> GroupConvolutions:
        """Eight channels, two groups of one block, half size."""
        return TINY

    @classmethod
    def scaled(cls, config: GroupConvolutions, width: float) -> GroupConvolutions:
        """Channels multiplied, to a multiple of 4."""
        return config.scaled(width)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weight decay on the weights of convolutions alone."""
        return decayed_weights(self)

    def forward(self, vectors: tuple[Tensor, ...]) -> Tensor:
        """mu and ln b (b, 2 * channels, h, w) from one map of vectors (b, dims[0], *grid)."""
        (features,) = vectors
        for i, group in enumerate(self.groups):
            features = group(self.upsample(features) if i else features)
        return self.last(self.relu(features))

    def signals(self, output: Tensor) -> Tensor:
        """Images (b, channels, h, w) in [-1, 1] from mu and ln b: the median of the distribution, sigmoid(mu), mapped back."""
        mu, _ = halves(output)
        return from_open_interval(mu.sigmoid())
