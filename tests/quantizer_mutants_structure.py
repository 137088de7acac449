"""Quantizers with one bug each in how positions, levels and entropies go together (P29 to P37).

"vqp" is vector-quantize-pytorch 1.32.
"""

import math

import torch
from quantizer_mutants import planted
from torch import Generator, Tensor
from torch.nn import functional as F

from dvgen.blocks.rows import to_rows
from dvgen.interfaces.codes import Codes
from dvgen.interfaces.quantizer import Quantized
from dvgen_binary.lfq import LFQQuantizer
from dvgen_composed.product import ProductQuantizer
from dvgen_composed.residual import ResidualQuantizer
from dvgen_ema.quantizer import EMAQuantizer
from dvgen_vqvae.quantizer import VQQuantizer


@planted("P29 permutation")
class WeighedByPosition(VQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        return super().forward(z * torch.linspace(0.5, 1.5, z.shape[-1]).to(z.dtype), mask)


@planted("P30 company")  # vqp: affine statistics of the batch, in evaluation too, change 36 % of the codes
class BatchStatistics(VQQuantizer):
    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        return super().encode(z - z.mean() / 2 if z.numel() and mask is None else z, mask)


@planted("P31 junk_under_the_mask")  # vqp: zero times NaN; with NaN in the padding alone all 64 codes are NaN
class OneHotTimesNaN(EMAQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        chosen = F.one_hot(out.codes[0].clamp(min=0), self.num_codes) * (out.codes[0] >= 0).unsqueeze(-1)
        values = z.detach().movedim(1, -1).flatten(0, -2).to(out.pending["sums"].dtype)
        return out._replace(pending=out.pending | {"sums": chosen.flatten(0, -2).to(values.dtype).T @ values})


@planted("P31 mask_is_leaving_out")  # vqp: 0.118 without the masked rows, 14.21 with them
class MeanOverMasked(VQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        share = 1.0 if mask is None else mask.float().mean()
        return out._replace(losses={name: value * share for name, value in out.losses.items()})


@planted("P32 determinism")
class UnseededNoise(VQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        generator = Generator()
        generator.seed()
        return super().forward(z * (1 + torch.rand(z.shape, generator=generator).to(z.dtype) / 100), mask)


@planted("P33 use_of_codes")
class CountsMasked(VQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        counts = out.codes[0].clamp(min=0).reshape(-1).bincount(minlength=self.config.num_codes)
        return out._replace(stats=out.stats | {"counts_0": counts})


@planted("P33 uniform_use")
class PerplexityInBits(VQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        return out._replace(stats=out.stats | {"perplexity_0": out.stats["perplexity_0"] ** (1 / math.log(2))})


@planted("P33 promised_scalars")
class ErrorOverMaskedToo(VQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        clean = z if mask is None else torch.where(mask.unsqueeze(1), z, 0)
        error = (out.vectors.detach() - clean).double().square().sum() / max(1, 2 * z.numel())
        return out._replace(stats=out.stats | {"quantization_error": error})


@planted("P34 partial_sums")
class PrefixIsNotTheSum(ResidualQuantizer):
    def decode(self, codes: Codes) -> Tensor:
        return super().decode(codes) * (2 if len(codes) < len(self.stages) else 1)


@planted("P34 nearest_of_what_is_left")
class EveryLevelSeesAll(ResidualQuantizer):
    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        return sum((stage.encode(z.float(), mask) for stage in self.each()), ())


@planted("P35 independent_groups")
class GroupsMixed(ProductQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        return super().forward(z + 0.3 * z.flip(1).detach(), mask)


@planted("P37 moved_together")
class NearestByAngle(VQQuantizer):
    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        rows = to_rows(z.detach(), self.dim, mask)
        return (rows.codes((rows.values @ F.normalize(self.codebook.detach(), dim=1).to(rows.values.dtype).T).argmax(1)),)


@planted("P36 entropy_signs")  # open-genie
class EntropySign(LFQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        return out._replace(losses=out.losses | {"entropy_batch": -out.losses["entropy_batch"]})


@planted("P36 entropies")
class EntropyInBits(LFQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        bits = {name: value / math.log(2) for name, value in out.stats.items() if name.startswith("entropy")}
        return out._replace(stats=out.stats | bits)
