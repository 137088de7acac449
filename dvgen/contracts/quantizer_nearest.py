"""Property P3: a code names the vector nearest to the feature.

Shapes: b batch, d width, *grid positions, n features, k codes.
"""

import torch
from torch import Tensor

from dvgen.contracts.law import law, require
from dvgen.contracts.quantizer_subject import ENUMERABLE, Example, Subject, as_map, as_rows
from dvgen.contracts.quantizer_values import as_one_index, table_of, trained
from dvgen.interfaces.quantizer import Quantizer


@law("P3", "the code is the nearest one in float64, ties to the lowest", applies=lambda q: q.traits.nearest)
def nearest_code(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    _check_nearest(quantizer, example.features(quantizer.dim))


@law("P3", "half way between two codes, the lower one is taken", applies=lambda q: q.traits.nearest, once=True)
@torch.no_grad()
def lowest_of_equals(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(Example(updates=0)).eval()
    size = quantizer.levels((1,))[0].num_codes
    if size > ENUMERABLE:
        return
    if quantizer.traits.table:
        # whole numbers, so that distances are exact and ties are ties
        quantizer.codebook.copy_(Example(scale=4.0).rows(size, quantizer.dim).round())  # type: ignore[operator, union-attr]
    table = table_of(quantizer)
    others = torch.cat([table.roll(1, dims=0), table.flip(0)])
    _check_nearest(quantizer, as_map((table.repeat(2, 1) + others) / 2))


@law(
    "P3-",
    "a quantizer that does not declare `nearest` has codes that are not",
    applies=lambda q: not q.traits.nearest,
    once=True,
)
def not_nearest(subject: Subject, example: Example) -> None:
    quantizer = trained(subject, 0)
    if quantizer.levels((1,))[0].num_codes > ENUMERABLE:
        return
    scales = (1e-9, 0.2, 1.0, 5.0)
    z = torch.cat([Example(batch=1, grid=(400,), scale=scale).features(quantizer.dim) for scale in scales])
    table = table_of(quantizer).double()
    distances = (as_rows(z).double().unsqueeze(1) - table).square().sum(dim=2)
    own = distances.gather(1, as_one_index(quantizer, quantizer.encode(z)).unsqueeze(1)).squeeze(1)
    require((own > distances.amin(dim=1)).any(), "every code is the nearest one: declare traits.nearest")


def _check_nearest(quantizer: Quantizer, z: Tensor) -> None:
    """Compare with brute force in float64; z (b, d, *grid)."""
    if quantizer.levels((1,))[0].num_codes > ENUMERABLE or not z.numel():
        return
    table = table_of(quantizer).double()
    distances = (as_rows(z).double().unsqueeze(1) - table).square().sum(dim=2)
    found = as_one_index(quantizer, quantizer.encode(z))
    least = distances.amin(dim=1)
    own = distances.gather(1, found.unsqueeze(1)).squeeze(1)
    require((own <= least * (1 + 1e-14)).all(), f"{int((own > least * (1 + 1e-14)).sum())} of {len(found)} codes not nearest")
    lowest = (distances == least.unsqueeze(1)).int().argmax(dim=1)
    tied = own == least
    require((found[tied] <= lowest[tied]).all(), "a tie did not go to the lowest code")
