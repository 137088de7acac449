"""Quantizers with one bug each in gradients and losses (P12 to P18); "vqp" is vector-quantize-pytorch 1.32."""

import torch
from quantizer_mutants import planted, same_value, uncovered
from torch import Tensor

from dvgen.blocks.estimators import straight_through
from dvgen.blocks.rows import to_rows
from dvgen.interfaces.quantizer import Quantized, Traits
from dvgen_binary.lfq import LFQQuantizer
from dvgen_composed.residual import ResidualQuantizer
from dvgen_ema.quantizer import EMAQuantizer
from dvgen_gumbel.quantizer import GumbelQuantizer
from dvgen_vqvae.quantizer import VQQuantizer


@planted("P12 straight_through", levels=3, inner=ResidualQuantizer.tiny().inner)  # vqp: times 1, 2, 4, 8 for as many levels
class GradientOfEveryLevel(ResidualQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        return out._replace(vectors=same_value(out.vectors, self.config.levels))


@planted("P12 straight_through")
class GradientUnderTheMask(VQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        return out._replace(vectors=straight_through(z, out.vectors.detach()))


@planted("P12 linear_by_position")
class GradientOfTheMean(GumbelQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        mean = out.vectors.mean() if out.vectors.numel() else out.vectors.sum()
        return out._replace(vectors=out.vectors + (mean - mean.detach()))


@planted("P12- not_straight_through")
class StraightThroughUndeclared(VQQuantizer):
    traits = Traits(estimator="smooth", nearest=True, idempotent=True, table=True)


@planted("P13 gradient_in_both_modes")  # vqp: an encoder that trains before a codebook in evaluation gets no gradient
class OnlyInTraining(VQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        return out if self.training else out._replace(vectors=out.vectors.detach())


@planted("P14 weight_stands_alone")  # taming ("legacy"), Cosmos-Tokenizer, and vqp with a learned codebook
class WeightOnBothTerms(VQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        return out._replace(losses=out.losses | {"codebook": out.losses["codebook"] * self.config.commitment})


@planted("P14 losses_reach")
class CommitmentMovesCodes(VQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        both = (out.losses["commitment"] + self.config.commitment * out.losses["codebook"]) / 2
        return out._replace(losses=out.losses | {"commitment": both})


@planted("P15 gradients_of_the_forward_pass")  # vqp: gradients off by 222 %, torch is not told of writes to `.data`
class OverwrittenBeforeBackward(EMAQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out, rows = super().forward(z, mask), to_rows(z, self.dim, mask)
        scores = rows.values @ self.codebook.to(rows.values.dtype).T
        return out._replace(losses=out.losses | {"diversity": rows.mean(scores.square())})

    def update(self, pending: dict[str, Tensor]) -> None:
        used = self.codebook
        self.codebook = used.clone()
        super().update(pending)
        used.data.copy_(self.codebook)
        self.codebook = used


@planted("P16 rotation_trick", num_codes=4, dim=3, estimator="rotation")  # vqp: the decoder gets 0 where a feature is 0
class ZeroIsNotTurned(VQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        return out._replace(vectors=torch.where((z == 0).all(1, keepdim=True), 0 * out.vectors, out.vectors))


@planted("P16 rotation_trick", num_codes=4, dim=3, estimator="rotation")  # vqp: gradients times 5010 at features of 1e-4
class UnboundedGain(VQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        gain = (out.vectors.norm(dim=1, keepdim=True) / uncovered(z, mask).norm(dim=1, keepdim=True)).detach()
        return out._replace(vectors=same_value(out.vectors, torch.where(gain.isfinite(), (gain / 10).clamp(min=1), 1)))


@planted("P17 blind_upstream")  # vqp: the gradient passes straight through, that of the softmax is discarded
class SoftmaxDiscarded(GumbelQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        return out._replace(vectors=straight_through(uncovered(z, mask), out.vectors.detach()))


@planted("P17 hard_forward")
class SoftVectors(GumbelQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        return out._replace(vectors=out.vectors * 0.9)


@planted("P17 frequencies")
class NothingDrawn(GumbelQuantizer):
    def _logits(self, values: Tensor) -> Tensor:
        return super()._logits(values) * 1e6


@planted("P18 derivatives")
class EntropyDetached(LFQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        return out._replace(losses=out.losses | {"entropy_sample": out.losses["entropy_sample"].detach()})
