"""A code file: code maps, compressed with the probabilities of a model, which is needed to read them again.

The proof that a likelihood is one: a model that tells how few bits the codes take writes them in so few bits, and the bits
are enough. Codes are predicted as in sampling: one map at a time, coarse levels first, one position after the other from a
cache, in float64.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvgen.code_model import CodeModel
from dvgen.errors import DataError, IntegrityError, NonFiniteError, ShapeError
from dvgen.interfaces.codes import Codes, check_codes
from dvgen.interfaces.context import Context
from dvgen.interfaces.prior import AutoregressivePrior, Prior
from dvgen.verify.range_coder import TOTAL, RangeDecoder, RangeEncoder

MAGIC = b"dv"
HEADER = struct.Struct(">2sII")
"""MAGIC, the number of maps, the CRC-32 of the number and of what follows."""

Edges = NDArray[np.int64]
"""Where the intervals of the codes begin, and where the last ends: (num_codes + 1,), from 0 to TOTAL."""


class Place(NamedTuple):
    """A position of the codes of all levels: the number of the level, and the place in raster order."""

    level: int
    position: int


Choose = Callable[[Place, Edges], int]


def intervals(logits: Tensor) -> Edges:
    """The interval of each code, its probability of TOTAL, from logits (num_codes,): none is empty, together they are all.

    Raises NonFiniteError when the logits are no distribution.
    """
    probabilities = torch.softmax(logits.double(), dim=-1)
    if not bool(probabilities.isfinite().all()):
        raise NonFiniteError("cannot code: the logits are NaN, +inf, or -inf for every code; the prior has diverged")
    sizes = (probabilities * (TOTAL - len(probabilities))).long() + 1
    sizes[probabilities.argmax()] += TOTAL - sizes.sum()
    return np.concatenate([[0], sizes.cumsum(dim=0).numpy()])


def why_no_codec(model: CodeModel) -> str | None:
    """Why the codes of this model cannot be written with its probabilities; None where they can."""
    for prior in _priors(model):
        name = prior.levels[0].name
        if not prior.exact:
            return f"level {name!r}: its prior tells a bound, not probabilities"
        if not isinstance(prior, AutoregressivePrior):
            return f"level {name!r}: its prior does not predict one code after the other"
    return None


def write_codes(
    path: Path, model: CodeModel, codes: Codes, labels: Tensor | None, pause: Callable[[], None] = lambda: None
) -> None:
    """Write codes (n, *grid) a level. The model: in evaluation, on the CPU, in float64 (see `verify_codec`).

    labels: (n,) or None; they are not written. `pause` is called before every code, and may raise to stop. Raises ShapeError
    for masked codes, and for a model that `why_no_codec` tells of.
    """
    check_codes(codes, model.levels)
    if any(int(code.min()) < 0 for code in codes if code.numel()):
        raise ShapeError("masked codes have no probability and cannot be written; leave out the maps that hold some")
    encoder = RangeEncoder()
    for i in range(len(codes[0])):
        _map(model, _label(labels, i), partial(_encode, encoder, [code[i].flatten() for code in codes]), pause)
    count, data = struct.pack(">I", len(codes[0])), encoder.finish()
    path.write_bytes(HEADER.pack(MAGIC, len(codes[0]), zlib.crc32(count + data)) + data)


def read_codes(path: Path, model: CodeModel, labels: Tensor | None, pause: Callable[[], None] = lambda: None) -> Codes:
    """The codes in a file, with the model and the labels that they were written with; `pause` as in `write_codes`.

    Raises DataError when the file cannot be read, IntegrityError when it is no code file, cut short, or changed. Another
    model reads other codes, and cannot know it.
    """
    count, data = _parsed(path)
    decoder = RangeDecoder(data)
    maps = [_map(model, _label(labels, i), partial(_decode, decoder), pause) for i in range(count)]
    empty = tuple(torch.zeros(0, *level.grid, dtype=torch.int64) for level in model.levels)
    return tuple(torch.cat(parts) for parts in zip(empty, *maps, strict=True))


def _encode(encoder: RangeEncoder, rows: list[Tensor], place: Place, edges: Edges) -> int:
    code = int(rows[place.level][place.position])
    encoder.encode(int(edges[code]), int(edges[code + 1] - edges[code]))
    return code


def _decode(decoder: RangeDecoder, place: Place, edges: Edges) -> int:
    code = int(np.searchsorted(edges, decoder.target(), side="right")) - 1
    decoder.advance(int(edges[code]), int(edges[code + 1] - edges[code]))
    return code


@torch.no_grad()
def _map(model: CodeModel, label: Tensor | None, choose: Choose, pause: Callable[[], None]) -> Codes:
    """One map (1, *grid) a level, each code chosen by `choose` from its intervals given those before it."""
    found: Codes = ()
    for prior in _priors(model):
        if not isinstance(prior, AutoregressivePrior):
            raise ShapeError(why_no_codec(model))
        state = prior.start(Context(1, found, label))
        chosen: list[int] = []
        for position in range(prior.level.length):
            pause()
            logits = prior.step(state, torch.tensor(chosen[-1:]) if chosen else None)
            chosen.append(choose(Place(len(found), position), intervals(logits[0])))
        found += (torch.tensor(chosen).reshape(1, *prior.level.grid),)
    return found


def _priors(model: CodeModel) -> Iterator[Prior]:
    return (prior for prior in model.priors if isinstance(prior, Prior))


def _label(labels: Tensor | None, i: int) -> Tensor | None:
    return None if labels is None else labels[i : i + 1]


def _parsed(path: Path) -> tuple[int, bytes]:
    """The number of maps of a file and what follows its header."""
    try:
        whole = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; give a file that dvgen wrote") from None
    if len(whole) < HEADER.size or not whole.startswith(MAGIC):
        raise IntegrityError(f"{path}: not a code file: expected {MAGIC!r} and a header of {HEADER.size} bytes; write it again")
    _, count, crc = HEADER.unpack_from(whole)
    data = whole[HEADER.size :]
    if zlib.crc32(struct.pack(">I", count) + data) != crc:
        raise IntegrityError(f"{path}: cut short or changed: its contents are not those it was written with; write it again")
    return count, data
