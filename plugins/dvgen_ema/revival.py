"""Where codes that nobody uses are placed anew: from sums alone, so that every rank and every micro-batching agrees.

Replacing a dead code by a feature of the batch (Jukebox, SoundStream) needs the features themselves, which do not add up
over ranks. Splitting the cell with the largest error needs only sums (Linde, Buzo and Gray, 1980).

Shapes: k codes, d width.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

STEP = 0.1
"""How far a revived code stands from its parent, relative to the spread of the parent's features.

Any small step gives it about half of those features, the ones on its side; the averages then move the two apart.
"""


class Revival(NamedTuple):
    """revived: bool (k,). parents: int64 (k,), the code split for it. places: (k, d), where it goes. The last two hold
    nothing of meaning where a code is not revived.
    """

    revived: Tensor
    parents: Tensor
    places: Tensor


def revive(codebook: Tensor, counts: Tensor, errors: Tensor, dead: Tensor) -> Revival:
    """Pair dead codes, in the order of their index, with the codes of the largest error, each split at most once.

    codebook (k, d); counts and errors (k,): features that chose a code, and the sum of their squared distances; dead: bool
    (k,). A code is split only when two features chose it and its error is not zero. Uses no random numbers.
    """
    splittable = (counts >= 2) & (errors > 0)
    children = dead.int().argsort(descending=True, stable=True)
    parents = torch.where(splittable, errors, -1.0).argsort(descending=True, stable=True)
    paired = dead[children] & splittable[parents]
    spread = (errors[parents] / counts[parents].clamp(min=1)).sqrt()
    places = codebook[parents] + STEP * rearrange(spread, "k -> k 1") * _directions(codebook, children)
    back = children.argsort()
    return Revival(paired[back], parents[back], places[back])


def _directions(codebook: Tensor, codes: Tensor) -> Tensor:
    """A unit vector (k, d) a code: half the entries up, half down, in a pattern of its own."""
    dim = codebook.shape[1]
    positions = torch.arange(dim, device=codebook.device)
    # a Weyl sequence: equidistributed signs without a generator, alike on every device
    phase = torch.frac((rearrange(codes, "k -> k 1") + 1).double() * (positions + 1).double() * 0.6180339887498949)
    return torch.where(phase < 0.5, -1.0, 1.0).to(codebook.dtype) / dim**0.5
