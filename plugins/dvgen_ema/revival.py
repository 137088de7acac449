"""Where codes that nobody uses are placed anew: from sums alone, so that every rank and every micro-batching agrees.

Replacing a dead code by a feature of the batch (Jukebox, SoundStream) needs the features themselves, which do not add up
over ranks. Splitting the cell with the largest error needs only sums (Linde, Buzo and Gray, 1980).

Shapes: k codes, d width, r pairs, the smaller of k and MOST.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

STEP = 0.1
"""How far a revived code stands from its parent, relative to the spread of the parent's features.

Any small step gives it about half of those features, the ones on its side; the averages then move the two apart.
"""

MOST = 512
"""Codes revived in one update. How many are dead is known to the device alone, so the work is done for as many as may be
revived; all k would be several passes over the codebook in every step. The others are still dead in the next update.
"""


class Revival(NamedTuple):
    """codes: int64 (r,), all different. revived: bool (r,), whether the code is. parents: int64 (r,), the code split for it.
    places: (r, d), where it goes. The last two hold nothing of meaning where a code is not revived.
    """

    codes: Tensor
    revived: Tensor
    parents: Tensor
    places: Tensor


def revive(codebook: Tensor, counts: Tensor, errors: Tensor, dead: Tensor) -> Revival:
    """Pair dead codes, in the order of their index, with the codes of the largest error, each split at most once.

    codebook (k, d); counts and errors (k,): features that chose a code, and the sum of their squared distances; dead: bool
    (k,). A code is split only when two features chose it and its error is not zero. Uses no random numbers.
    """
    pairs = min(MOST, len(dead))
    codes = _first(dead, pairs)
    splittable = (counts >= 2) & (errors > 0)
    # stable: equal errors go by index, on every device alike
    parents = torch.where(splittable, errors, -1.0).argsort(descending=True, stable=True)[:pairs]
    spread = (errors[parents] / counts[parents].clamp(min=1)).sqrt()
    places = codebook[parents] + STEP * rearrange(spread, "r -> r 1") * _directions(codebook, codes)
    return Revival(codes, dead[codes] & splittable[parents], parents, places)


def _first(dead: Tensor, count: int) -> Tensor:
    """The indices of the dead codes, ascending, then others: int64 (count,)."""
    descending = torch.arange(len(dead), 0, -1, device=dead.device)
    return torch.where(dead, descending, 0).topk(count).indices


def _directions(codebook: Tensor, codes: Tensor) -> Tensor:
    """A unit vector (r, d) a code: half the entries up, half down, in a pattern of its own."""
    dim = codebook.shape[1]
    positions = torch.arange(dim, device=codebook.device)
    # a Weyl sequence: equidistributed signs without a generator, alike on every device
    phase = torch.frac((rearrange(codes, "r -> r 1") + 1).double() * (positions + 1).double() * 0.6180339887498949)
    return torch.where(phase < 0.5, -1.0, 1.0).to(codebook.dtype) / dim**0.5
