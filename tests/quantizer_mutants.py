"""Quantizers with one bug each, planted in one that keeps the contract: what they return (P1 to P11).

Where a public library had the bug, the line above the class says which; "vqp" is vector-quantize-pytorch 1.32.
"""

from collections.abc import Callable
from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from dvgen.blocks.codebook import look_up
from dvgen.blocks.rows import to_rows
from dvgen.interfaces.codes import Codes
from dvgen.interfaces.quantizer import Quantized, Quantizer, Traits
from dvgen_binary.lfq import LFQQuantizer
from dvgen_ema.quantizer import EMAQuantizer
from dvgen_fsq.quantizer import FSQQuantizer
from dvgen_gumbel.quantizer import GumbelQuantizer
from dvgen_simvq.quantizer import SimVQQuantizer
from dvgen_vqvae.quantizer import VQQuantizer


@frozen
class Bug:
    """A quantizer with a bug, the one without, and the law that is there to find it, as `broken_laws` calls it.

    raises: names of exceptions, by one of which it is found. Broken: the law saw it; others: torch refused.
    """

    law: str
    broken: type[Quantizer]
    sound: type[Quantizer]
    config: Any
    raises: tuple[str, ...]

    def made(self, kind: type[Quantizer]) -> Quantizer:
        """One of the two, with the same config; inner quantizers are "ema"."""
        make: Any = kind
        if hasattr(self.config, "inner"):
            return make(self.config, inner=lambda: EMAQuantizer(EMAQuantizer.Config(**self.config.inner.fields)))
        return make(self.config)


def planted(law: str, *raises: str, **config: Any) -> Callable[[Any], Any]:
    """Class decorator: the bug is what the class does otherwise than its base; config: its fields, else it is the tiny one."""

    def plant(broken: Any) -> Any:
        sound = broken.__base__
        broken.bug = Bug(law, broken, sound, sound.Config(**config) if config else sound.tiny(), raises or ("Broken",))
        return broken

    return plant


def same_value(vectors: Tensor, factor: Tensor | float) -> Tensor:
    """The vectors, with their gradient times a factor."""
    return vectors.detach() + (vectors - vectors.detach()) * factor


def uncovered(z: Tensor, mask: Tensor | None) -> Tensor:
    """z, zero where masked."""
    return z if mask is None else torch.where(mask.unsqueeze(1), z, 0)


@planted("P1 shapes")  # vqp: the evaluation loss carries a gradient
class AttachedStats(VQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        return out._replace(stats=out.stats | {"spread": self.codebook.square().mean()})


@planted("P1 shapes", "RuntimeError")  # works on contiguous features alone
class ViewsMaps(VQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        maps = z.view(z.shape[0] * z.shape[1], *z.shape[2:])
        return super().forward(maps.view(z.shape), mask)


@planted("P2 ranges", levels_per_channel=(4, 2001))  # vqp, Cosmos-Tokenizer: a bound of 1 + eps, codes -2 and 8006 of 8004
class FSQOutOfRange(FSQQuantizer):
    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        rows = to_rows(z.detach(), self.dim, mask)
        digits = (self._bounded(rows.values) * 1.001).round().long() + self.digits.sizes // 2
        return tuple(rows.codes(code) for code in self.digits.codes(digits))


@planted("P3 nearest_code")  # vqp: at an offset of 1e4, 99.9 % of the codes are wrong
class UncentredSearch(VQQuantizer):
    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        rows = to_rows(z.detach(), self.dim, mask)
        codebook = self.codebook.detach()
        scores = rows.values.float() @ codebook.float().T - codebook.float().square().sum(1) / 2
        return (rows.codes(scores.argmax(1)),)


@planted("P3 lowest_of_equals")
class HighestOfEquals(VQQuantizer):
    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        rows = to_rows(z.detach(), self.dim, mask)
        distances = (rows.values.double().unsqueeze(1) - self.codebook.double()).square().sum(2)
        return (rows.codes(len(self.codebook) - 1 - distances.flip(1).argmin(1)),)


@planted("P3 lowest_of_equals")
class ZeroIsNegative(LFQQuantizer):
    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        return super().encode(torch.where(z == 0, -1.0, z), mask)


@planted("P3 nearest_code")
class DeclaresNearest(FSQQuantizer):
    traits = Traits(estimator="smooth", nearest=True)


@planted("P3- not_nearest")
class NearestUndeclared(VQQuantizer):
    traits = Traits(estimator="straight-through", idempotent=True, table=True)


@planted("P4 decode_gives_vectors")  # the usual idiom of public code: it rounds
class RoundedStraightThrough(VQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out, kept = super().forward(z, mask), uncovered(z, mask)
        return out._replace(vectors=kept + (out.vectors - kept).detach())


@planted("P4 decode_gives_vectors")  # SimVQ's authors: the entry of the frozen table, off by 1.52
class ForgottenMap(SimVQQuantizer):
    def decode(self, codes: Codes) -> Tensor:
        return look_up(codes, self.basis)


@planted("P4 decode_gives_vectors", bits=40)  # BSQ-ViT: with 36 bits 99.86 % of the codes are wrong; FSQ's notebook
class FloatSumOfBits(LFQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        return super().forward(z, mask)._replace(codes=self.encode(z, mask))

    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        rows = to_rows(z.detach(), self.dim, mask)
        return (rows.codes(((rows.values < 0).float() * self.signs.digits.places.float()).sum(1).long()),)


@planted("P5 encode_gives_codes")  # vqp: BinaryMapper samples in evaluation
class NoiseInEvaluation(GumbelQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        training = self.training
        self.train()
        out = super().forward(z, mask)
        self.train(training)
        return out


@planted("P6 idempotent")
class DeclaresIdempotent(FSQQuantizer):
    traits = Traits(estimator="smooth", idempotent=True)


@planted("P6- not_idempotent")
class IdempotentUndeclared(VQQuantizer):
    traits = Traits(estimator="straight-through", nearest=True, table=True)


@planted("P7 masked_is_zero")  # vqp: -1 decodes to the last code
class PadIsTheLastCode(VQQuantizer):
    def decode(self, codes: Codes) -> Tensor:
        return super().decode(tuple(code % self.config.num_codes if (code == -1).all() else code for code in codes))


@planted("P8 bijection")
class LastChannelForgotten(FSQQuantizer):
    def decode(self, codes: Codes) -> Tensor:
        vectors = super().decode(codes)
        return torch.cat([vectors[:, :-1], vectors[:, :1]], dim=1)


@planted("P8 every_code_is_reached")  # the levels at the ends are not reached: FSQ's notebook above L = 1001, vqp in bfloat16
class FSQTruncates(FSQQuantizer):
    def _digits(self, bounded: Tensor) -> Tensor:
        return super()._digits(bounded.trunc())


@planted("P9 out_of_range")
class ClampsCodes(VQQuantizer):
    def decode(self, codes: Codes) -> Tensor:
        return super().decode(tuple(code.clamp(-1, self.config.num_codes - 1) for code in codes))


@planted("P10 bad_values")  # vqp: code 0, no exception
class NaNIsZero(VQQuantizer):
    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        return super().encode(z.nan_to_num(), mask)


@planted("P11 nothing_valid")  # vqp: the loss of a fully masked batch is NaN
class MeanOfNothing(VQQuantizer):
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        out = super().forward(z, mask)
        number = 1.0 if mask is None else mask.sum()
        return out._replace(losses={name: value * number / number for name, value in out.losses.items()})
