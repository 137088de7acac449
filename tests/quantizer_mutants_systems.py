"""Quantizers with one bug each that shows on a device, in a compiler or on several ranks (P38 to P41).

"vqp" is vector-quantize-pytorch 1.32.
"""

import torch
from quantizer_mutants import planted
from torch import Tensor, distributed
from torch.nn import functional as F

from dvgen.blocks.across_ranks import sum_over_ranks
from dvgen.blocks.codebook import look_up
from dvgen.blocks.rows import Rows
from dvgen.interfaces.codes import Codes
from dvgen.interfaces.quantizer import Quantized
from dvgen_binary.lfq import LFQQuantizer
from dvgen_ema.quantizer import EMAQuantizer
from dvgen_vqvae.quantizer import VQQuantizer


@planted("P38 update_does_not_wait")  # vqp: at least one `.item()` a level in every step
class WaitsInUpdate(EMAQuantizer):
    def update(self, pending: dict[str, Tensor]) -> None:
        if float(pending["counts"].sum()) > 0:
            super().update(pending)


@planted("P38 compiled_is_eager", "Unsupported", "UserError")  # vqp: four breaks of the graph in training
class GraphBreak(VQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        return out if out.losses["commitment"].item() >= 0 else super().forward(2 * z, mask)


@planted("P38 inductor_is_eager")
class OtherWhenCompiled(VQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        return out._replace(vectors=out.vectors * 0.99) if torch.compiler.is_compiling() else out


@planted("P38 bad_values_compiled")
class AlwaysFinite(VQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        return out._replace(stats=out.stats | {"finite": torch.ones(())})


@planted("P38 no_recompilation", "RuntimeError")
class EveryBatchSizeAnew(VQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        return out._replace(stats=out.stats | {"positions": torch.full((), float(sum(range(z.shape[0]))))})


@planted("P39 ranks_update_alike")  # vqp: the codebooks of the ranks part
class RandomUpdate(EMAQuantizer):
    def update(self, pending: dict[str, Tensor]) -> None:
        super().update(pending)
        self.codebook.add_(torch.randn_like(self.codebook) / 1000 * (pending["counts"].sum() > 0))


@planted("P39 two_processes")  # vqp: the result of all_reduce is dropped, each rank has the entropy of its own mean
class EntropyOfEachRank(LFQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        self.signs.eval()
        return super().forward(z, mask)


@planted("P39 two_processes")  # vqp: a quantizer built before the process group never synchronises
class WorldKnownAtStart(LFQQuantizer):
    def __init__(self, config: LFQQuantizer.Config) -> None:
        super().__init__(config)
        self.distributed = distributed.is_initialized()

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        self.signs.train(self.training and self.distributed)
        return super().forward(z, mask)


@planted("P39 two_processes")
class MeanOfMeans(LFQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        self.signs.eval()
        out, ranks = super().forward(z, mask), 2 if distributed.is_initialized() else 1
        shared = {name: sum_over_ranks(value, self.training) / ranks for name, value in sorted(out.losses.items())}
        return out._replace(losses=shared if self.training else out.losses)


@planted("P39 two_processes")  # vqp: an evaluation on one rank hangs
class EvaluationWaits(EMAQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        if distributed.is_initialized():
            distributed.all_reduce(out.stats["counts_0"])
        return out


@planted("P40 memory", num_codes=1024, dim=3)  # axlearn: 32 GB at 256k codes
class OneHotOfAllCodes(EMAQuantizer):
    def _pending(self, rows: Rows, codes: Tensor, values: Tensor, squares: Tensor) -> dict[str, Tensor]:
        chosen = F.one_hot(codes, self.num_codes).to(values.dtype)
        sums = {"counts": chosen.sum(0), "sums": chosen.T @ values.detach()}
        return super()._pending(rows, codes, values, squares) | sums


@planted("P41 decode_is_functional")
class TableKept(VQQuantizer):
    def decode(self, codes: Codes) -> Tensor:
        return look_up(codes, self.__dict__.setdefault("kept", self.codebook.detach().clone()))


@planted("P41 out_of_range_under_vmap")
class RangeUnchecked(VQQuantizer):
    def decode(self, codes: Codes) -> Tensor:
        masked = codes[0] == -1
        vectors = F.embedding(codes[0].clamp(min=0, max=self.config.num_codes - 1), self.codebook)
        return vectors.masked_fill(masked.unsqueeze(-1), 0).movedim(-1, 1)
