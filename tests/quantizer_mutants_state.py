"""Quantizers with one bug each in their state and its updates (P19 to P28); "vqp" is vector-quantize-pytorch 1.32."""

import random
from typing import Any

import torch
from quantizer_mutants import planted
from torch import Tensor, nn

from dvgen.blocks.rows import Rows
from dvgen.interfaces.codes import Codes
from dvgen.interfaces.quantizer import Quantized
from dvgen_ema.quantizer import EMAQuantizer
from dvgen_gumbel.quantizer import GumbelQuantizer
from dvgen_vqvae.quantizer import VQQuantizer


@planted("P19 towards_the_mean")
class Overshoots(EMAQuantizer):
    def update(self, pending: dict[str, Tensor]) -> None:
        before = self.codebook.clone()
        super().update(pending)
        self.codebook.copy_(before + 1.5 * (self.codebook - before))


@planted("P19 error_falls")
class SumsOfOtherCodes(EMAQuantizer):
    def _pending(self, rows: Rows, codes: Tensor, values: Tensor, squares: Tensor) -> dict[str, Tensor]:
        pending = super()._pending(rows, codes, values, squares)
        return pending | {"sums": pending["sums"].roll(1, 0)}


@planted("P20 pure")  # vqp: the first pass in evaluation starts the codebook, and batch statistics go on moving
class EvaluationMovesCounts(EMAQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        self.unused.add_(1)
        return super().forward(z, mask)


@planted("P20 pure")
class EncodeDraws(GumbelQuantizer):
    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        torch.rand(1)
        return super().encode(z, mask)


@planted("P20 update_from_nothing")
class DecaysFromNothing(EMAQuantizer):
    def update(self, pending: dict[str, Tensor]) -> None:
        super().update(pending)
        self.counts.mul_(0.99)


@planted("P21 round_trips")
class CountsNotSaved(EMAQuantizer):
    def __init__(self, config: EMAQuantizer.Config) -> None:
        super().__init__(config)
        self.register_buffer("counts", torch.zeros(config.num_codes), persistent=False)


@planted("P21 round_trips")  # torchmultimodal: what is kept in plain attributes is not restored
class PlainTemperature(GumbelQuantizer):
    factor = 1.0

    def schedule(self, step: int) -> None:
        self.factor = 1 / (1 + step)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        return super().forward(z * self.factor, mask)


@planted("P22 unused_stays")  # Sonnet, and vqp after it: smoothing draws codes that nobody chooses to the origin
class SmoothingShrinks(EMAQuantizer):
    def update(self, pending: dict[str, Tensor]) -> None:
        super().update(pending)
        self.codebook[pending["counts"] == 0] *= 0.999


@planted("P23 revival")  # encodec, audiocraft: the averages of before overwrite the place, so that revival does nothing
class RevivalOverwritten(EMAQuantizer):
    def _revive(self, counts: Tensor, errors: Tensor, share: Tensor) -> None:
        kept = self.sums.clone(), self.counts.clone()
        super()._revive(counts, errors, share)
        self.sums.copy_(kept[0])
        self.counts.copy_(kept[1])


@planted("P23 revival")
class RevivedFarAway(EMAQuantizer):
    def _revive(self, counts: Tensor, errors: Tensor, share: Tensor) -> None:
        dead = self.unused >= self.revive_after
        far = torch.linspace(50, 99, self.codebook.numel(), dtype=self.codebook.dtype).view_as(self.codebook)
        self.codebook.copy_(torch.where(dead.unsqueeze(1), far, self.codebook))
        self.unused.masked_fill_(dead, 0)


@planted("P23 revival")
class RevivedOnItsParent(EMAQuantizer):
    def _revive(self, counts: Tensor, errors: Tensor, share: Tensor) -> None:
        dead = self.unused >= self.revive_after
        self.codebook.copy_(torch.where(dead.unsqueeze(1), self.codebook[errors.argmax()], self.codebook))
        self.unused.masked_fill_(dead, 0)


@planted("P23 revival")
class StopsHalfWay(EMAQuantizer):
    def _revive(self, counts: Tensor, errors: Tensor, share: Tensor) -> None:
        dead = self.unused >= self.revive_after
        half = self.codebook.lerp(self.codebook[errors.argmax()], 0.5)
        self.codebook.copy_(torch.where(dead.unsqueeze(1), half, self.codebook))
        self.unused.masked_fill_(dead, 0)


@planted("P23 revival")
class ThrownToAndFro(EMAQuantizer):
    def _revive(self, counts: Tensor, errors: Tensor, share: Tensor) -> None:
        dead = self.unused >= self.revive_after
        apart = 0.1 * torch.linspace(3, 4, len(dead)).unsqueeze(1) * torch.randn(self.dim).sign()
        self.codebook.copy_(torch.where(dead.unsqueeze(1), self.codebook[errors.argmax()] + apart, self.codebook))


@planted("P23 revival")
class CirclesWithoutEnd(EMAQuantizer):
    """Every step is small, and none takes a code out of the data or to a feature."""

    def _revive(self, counts: Tensor, errors: Tensor, share: Tensor) -> None:
        dead = self.unused >= self.revive_after
        radius, angle = (errors / counts.clamp(min=1)).max().sqrt(), 0.6 * self.unused.unsqueeze(1)
        corner = radius * torch.linspace(1.8, 2.2, len(dead)).unsqueeze(1) * torch.ones(self.dim)
        corner[:, :2] += 0.3 * radius * torch.cat([angle.cos(), angle.sin()], dim=1)
        self.codebook.copy_(torch.where(dead.unsqueeze(1), self.codebook[errors.argmax()] + corner, self.codebook))


@planted("P24 initial_codes_differ")  # vqp: an empty cluster gets zero; 48 of 64 codes from 16 samples
class EmptyClustersAreZero(EMAQuantizer):
    def initialise(self, z: Tensor) -> None:
        super().initialise(z)
        self.codebook[len(z.unique(dim=0)) :] = 0


@planted("P24 none_dead_at_start")
class StartsAnywhere(VQQuantizer):
    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        super().initialise(z)
        self.codebook.copy_(z.mean(0) + 30 * (self.codebook - z.mean(0)))


@planted("P24 initialise_is_deterministic")
class UnseededStart(VQQuantizer):
    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        super().initialise(z)
        self.codebook.copy_(self.codebook * (1 + random.SystemRandom().random() / 100))


@planted("P24 initialised_is_finite")
class DividesBySpread(GumbelQuantizer):
    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        super().initialise(z)
        self.codebook.copy_(self.codebook / z.std(0, correction=0))


@planted("P25 checkpointing")  # vqp: the averages move twice, gradients are off by 232 %
class UpdatesInForward(EMAQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        if self.training:
            super().update(out.pending)
        return out


@planted("P26 micro_batches")
class PendingMeans(EMAQuantizer):
    def _pending(self, rows: Rows, codes: Tensor, values: Tensor, squares: Tensor) -> dict[str, Tensor]:
        pending = super()._pending(rows, codes, values, squares)
        return pending | {"sums": pending["sums"] / pending["counts"].clamp(min=1).unsqueeze(1)}


@planted("P27 no_aliasing")  # vqp 1.32: `loss += 5` in evaluation, and the next loss is 5
class LossIsABuffer(VQQuantizer):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.register_buffer("zero", torch.zeros(()))

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        return out._replace(losses=out.losses | {"orthogonal": self.zero})


@planted("P27 keeps_no_argument")
class KeepsPending(EMAQuantizer):
    def update(self, pending: dict[str, Tensor]) -> None:
        super().update(pending)
        self.counts = pending["counts"]


@planted("P28 half_precision")  # vqp in bfloat16: counts add up to 3368 instead of 3895
class HalfCounts(EMAQuantizer):
    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        return nn.Module._apply(self, fn, recurse)


@planted("P28 autocast")  # vqp: autocast is switched off for CUDA alone
class LogitsUnderAutocast(GumbelQuantizer):
    def _logits(self, values: Tensor) -> Tensor:
        return self.projection(values - self.origin).to(values.dtype)


@planted("P28 double_precision")
class AlwaysFloat32(EMAQuantizer):
    def update(self, pending: dict[str, Tensor]) -> None:
        super().update(pending)
        self.codebook = self.codebook.float()
