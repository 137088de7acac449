"""Cases in which a search for the nearest code goes wrong when it trusts float32, and how many of its codes are wrong.

Shapes: n features, k codes, d width.
"""

from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

FEATURES = 2000
CLOSE = 1 + 1e-14
"""A code counts as nearest when its squared distance, in float64, is within this factor of the least."""


class SearchCase(NamedTuple):
    """features z (n, d) and a codebook (k, d), float32."""

    z: Tensor
    codebook: Tensor


def stress_cases(seed: int = 0) -> dict[str, SearchCase]:
    """Ten cases by name: scales, offsets, close codes, an outlier, many codes on a sphere, ties."""
    generator = Generator().manual_seed(seed)

    def normal(rows: int, dim: int) -> Tensor:
        return torch.randn(rows, dim, generator=generator)

    z, codebook = normal(FEATURES, 64), normal(1024, 64)
    close = 10 * F.normalize(normal(1, 64)) + 1e-3 * normal(1024, 64)
    chosen = close[torch.randint(1024, (FEATURES,), generator=generator)]
    outlier = codebook.clone()
    outlier[0] = 1e4
    lattice = torch.randint(-2, 3, (FEATURES, 6), generator=generator).float()
    return {
        "normal": SearchCase(z, codebook),
        "scale 1e-5": SearchCase(z * 1e-5, codebook * 1e-5),
        "scale 1e-25": SearchCase(z * 1e-25, codebook * 1e-25),
        "scale 1e20": SearchCase(z * 1e20, codebook * 1e20),
        "offset 300": SearchCase(z + 300, codebook + 300),
        "offset 1e4": SearchCase(z + 1e4, codebook + 1e4),
        "1e-3 apart at radius 10": SearchCase(chosen + 1e-4 * normal(FEATURES, 64), close),
        "one outlier at 1e4": SearchCase(z, outlier),
        "sphere, 16384 codes": SearchCase(F.normalize(normal(FEATURES, 8)), F.normalize(normal(16384, 8))),
        "ties on a lattice": SearchCase(lattice + 0.5, torch.randint(-2, 3, (256, 6), generator=generator).float()),
    }


def wrong_codes(codes: Tensor, case: SearchCase) -> int:
    """How many of codes (n,) do not name a nearest row of the codebook, by plain differences in float64."""
    wrong = 0
    for code, z in zip(codes.split(200), case.z.double().split(200), strict=True):
        distances = torch.cdist(z, case.codebook.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
        own = distances.gather(1, code.unsqueeze(1)).squeeze(1)
        wrong += int((own > distances.amin(dim=1) * CLOSE).sum())
    return wrong
