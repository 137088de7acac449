"""Drawing samples: one generator a sample, so that sample i is the same in any batch."""

import time
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from dvgen.code_model import CodeModel
from dvgen.interfaces.codes import Codes
from dvgen.interfaces.prior import Sampling
from dvgen.seeding import fold
from dvgen.tokenizer import Tokenizer


class Samples(NamedTuple):
    """codes: n of every level, on the CPU. signals: (n, *shape), decoded, clamped to [-1, 1]. seconds: spent drawing codes."""

    codes: Codes
    signals: Tensor
    seconds: float


@torch.no_grad()
def draw_samples(
    model: CodeModel, tokenizer: Tokenizer, n: int, *, labels: Tensor | None, sampling: Sampling, seed: int, batch: int
) -> Samples:
    """Draw n samples, uncurated, in batches. labels: (n,) int64, or None for an unconditional model."""
    device = next(model.parameters()).device
    parts: list[Codes] = []
    signals: list[Tensor] = []
    seconds = 0.0
    for first in range(0, n, batch):
        numbers = range(first, min(first + batch, n))
        generators = [Generator().manual_seed(fold(seed, "sample", i)) for i in numbers]
        own = None if labels is None else labels[first : first + batch].to(device)
        began = time.monotonic()
        codes = model.sample(generators, own, sampling=sampling)
        seconds += time.monotonic() - began
        parts.append(tuple(code.cpu() for code in codes))
        signals.append(tokenizer.decode(codes).clamp(-1, 1).cpu())
    return Samples(tuple(torch.cat(level) for level in zip(*parts, strict=True)), torch.cat(signals), seconds)
