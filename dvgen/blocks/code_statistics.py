"""What a quantizer tells about a batch: how its codes are used, and how far its vectors are from the features.

Shapes: n positions, d width, k codes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dvgen.blocks.rows import Rows
from dvgen.interfaces.quantizer import MAX_COUNTED


@torch.no_grad()
def code_statistics(
    rows: Rows,
    codes: Sequence[Tensor],
    num_codes: Sequence[int],
    vectors: Tensor,
    *,
    target: Tensor | None = None,
    certified: Tensor | None = None,
) -> dict[str, Tensor]:
    """The `stats` that every quantizer has, as `Quantized` describes them.

    codes: (n,) a level, and num_codes of each; vectors: (n, d), unmasked or not. target: what the vectors stand for, (n, d);
    the features unless told. certified: (n,), as `nearest` tells; its share is given as `certified`. Waits for
    nothing on the device.
    """
    wanted = (rows.values if target is None else target).detach()
    own = vectors.detach()
    stats: dict[str, Tensor] = {}
    for i, (code, size) in enumerate(zip(codes, num_codes, strict=True)):
        stats |= _use(rows, code, size, i)
    if certified is not None:
        stats["certified"] = 1 - rows.mean((~certified).to(own.dtype))
    variance, square = rows.mean((wanted - rows.average(wanted)).square()), rows.mean(wanted.square())
    return stats | {
        "quantization_error": rows.mean((own - wanted).square()),
        "feature_variance": variance,
        "feature_spread": variance / torch.where(square > 0, square, 1),
        "feature_norm": (square * wanted.shape[1]).sqrt(),
        "vector_norm": rows.mean(own.square().sum(dim=1)).sqrt(),
        "finite": rows.finite,
    }


def _use(rows: Rows, codes: Tensor, num_codes: int, level: int) -> dict[str, Tensor]:
    """counts_<level>, for a codebook that can be counted, and perplexity_<level>.

    The entropy of the codes' frequencies is log n minus the mean, over positions, of the log of how often their code occurs.
    """
    counts = rows.count_codes(codes, num_codes) if num_codes <= MAX_COUNTED else None
    often = _occurrences(rows, codes) if counts is None else counts[codes]
    entropy = rows.number().clamp(min=1).double().log() - rows.mean(often.clamp(min=1).double().log())
    perplexity = entropy.clamp(min=0).exp().float()
    return {f"perplexity_{level}": perplexity} | ({} if counts is None else {f"counts_{level}": counts})


def _occurrences(rows: Rows, codes: Tensor) -> Tensor:
    """How often the code of each position (n,) occurs at valid positions, without a table of all codes."""
    ordered = (codes if rows.mask is None else torch.where(rows.mask, codes, -1)).sort().values
    return torch.searchsorted(ordered, codes, right=True) - torch.searchsorted(ordered, codes)
