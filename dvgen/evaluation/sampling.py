"""Drawing samples: one generator a sample, so that sample i is the same in any batch."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from attrs import frozen
from torch import Generator, Tensor

from dvgen.code_model import CodeModel
from dvgen.interfaces.codes import Codes
from dvgen.interfaces.sampling import Sampling
from dvgen.seeding import fold
from dvgen.tokenizer import Tokenizer


class DrawnCodes(NamedTuple):
    """codes: n of every level, on the CPU. seconds: spent drawing them."""

    codes: Codes
    seconds: float


class Samples(NamedTuple):
    """codes: n of every level, on the CPU. signals: (n, *shape), decoded, clamped to [-1, 1]. seconds: spent drawing codes."""

    codes: Codes
    signals: Tensor
    seconds: float


@frozen(kw_only=True)
class Request:
    """What to draw: n samples, `batch` at a time, which changes none of them but by rounding: in bfloat16, a code at times.

    labels: (n,) int64, or None for an unconditional model. given: codes (n, *grid) a level to keep, MASKED where free; or None.
    """

    n: int
    labels: Tensor | None
    sampling: Sampling
    seed: int
    batch: int
    given: Codes | None = None


@torch.no_grad()
def draw_codes(model: CodeModel, request: Request, pause: Callable[[], None]) -> DrawnCodes:
    """Draw codes. `pause` is called before each batch, and may raise to stop."""
    device = next(model.parameters()).device
    parts: list[Codes] = []
    seconds = 0.0
    for first in range(0, request.n, request.batch):
        pause()
        numbers = range(first, min(first + request.batch, request.n))
        generators = [Generator().manual_seed(fold(request.seed, "sample", i)) for i in numbers]
        own = slice(first, first + request.batch)
        labels = None if request.labels is None else request.labels[own].to(device)
        given = None if request.given is None else tuple(code[own].to(device) for code in request.given)
        began = time.monotonic()
        codes = model.sample(generators, labels, sampling=request.sampling, given=given)
        seconds += time.monotonic() - began
        parts.append(tuple(code.cpu() for code in codes))
    return DrawnCodes(tuple(torch.cat(level) for level in zip(*parts, strict=True)), seconds)


@torch.no_grad()
def decode_codes(tokenizer: Tokenizer, codes: Codes, batch: int, pause: Callable[[], None]) -> Tensor:
    """The signals of codes (n, *grid) a level: (n, *shape), clamped to [-1, 1], on the CPU; `pause` as in `draw_codes`."""
    device = next(tokenizer.parameters()).device
    signals = torch.empty(0)
    for first in range(0, len(codes[0]), batch):
        pause()
        decoded = tokenizer.decode(tuple(code[first : first + batch].to(device) for code in codes)).clamp(-1, 1).cpu()
        if not first:  # room for all: parts kept and then joined would need twice the memory
            signals = decoded.new_empty(len(codes[0]), *decoded.shape[1:])
        signals[first : first + len(decoded)] = decoded
    return signals


def draw_samples(model: CodeModel, tokenizer: Tokenizer, request: Request, pause: Callable[[], None]) -> Samples:
    """Draw samples, uncurated: `draw_codes`, then `decode_codes`."""
    codes, seconds = draw_codes(model, request, pause)
    return Samples(codes, decode_codes(tokenizer, codes, request.batch, pause), seconds)
