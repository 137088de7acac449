"""Fidelity and diversity of samples, told apart by nearest neighbours in a space of features."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from dvgen.errors import ConfigError, ShapeError

BALL = 3
"""Of precision and recall: a ball around a row reaches to its third nearest neighbour (Kynkäänniemi et al. 2019)."""
WIDE_BALL = 5
"""Of density and coverage (Naeem et al. 2020)."""
PAIRS = 2**24
"""Distances in memory at a time: 128 MiB in float64."""


class Neighbours(NamedTuple):
    """Shares of rows, but for `density`, which may pass 1."""

    precision: float
    recall: float
    density: float
    coverage: float


@torch.no_grad()
def neighbours(reference: Tensor, measured: Tensor, *, pairs: int = PAIRS) -> Neighbours:
    """Precision, recall, density and coverage of `measured` (m, dim) by `reference` (n, dim), feature tables in float64.

    precision: share of measured rows in the ball of a reference row; recall: the reverse. A ball is closed and reaches to the
    third nearest other row of its own set. Kynkäänniemi et al. 2019 (arXiv 1904.06991), equations 1 to 3.
    density: in how many reference balls a measured row lies, on average, divided by 5; coverage: share of reference balls
    with a measured row in it. A ball is open and reaches to the fifth. Naeem et al. 2020 (arXiv 2002.09797), equations 3, 4.

    Two sets of one distribution have density 1 and coverage 1 - prod_j (n - 1 - j) / (n + m - 1 - j), j < 5, in expectation;
    precision and recall stay below 1 by an amount that depends on the data, so real against real belongs beside them.
    Memory is bounded: distances are made in blocks of about `pairs`. Raises ShapeError for tables that do not fit, and
    ConfigError for one of five rows or fewer.
    """
    check_tables(reference, measured)
    if min(len(reference), len(measured)) <= WIDE_BALL:
        raise ConfigError(
            f"neighbours need two sets of more than {WIDE_BALL} signals, got {len(reference)} and {len(measured)}; "
            "raise evaluate.samples"
        )
    own = _radii(reference, pairs)
    theirs = _radii(measured, pairs)[:, 0]
    precise = torch.zeros(len(measured), dtype=torch.bool)
    recalled, inside, covered = 0, 0, 0
    for rows, apart in distance_blocks(reference, measured, pairs):
        small, large = own[rows].unbind(dim=1)
        precise |= (apart <= small.unsqueeze(1)).any(dim=0)
        recalled += int((apart <= theirs).any(dim=1).sum())
        within = apart < large.unsqueeze(1)
        inside += int(within.sum())
        covered += int(within.any(dim=1).sum())
    n, m = len(reference), len(measured)
    return Neighbours(float(precise.double().mean()), recalled / n, inside / (WIDE_BALL * m), covered / n)


def distance_blocks(a: Tensor, b: Tensor, pairs: int = PAIRS) -> Iterator[tuple[slice, Tensor]]:
    """A few rows of a (n, dim) at a time, and their Euclidean distances to all rows of b (m, dim): (rows, m) float64."""
    size = max(1, pairs // max(1, len(b)))
    for start in range(0, len(a), size):
        rows = slice(start, min(start + size, len(a)))
        # by differences: by products two equal rows would not be at distance 0, and far from 0 no distance would be right
        yield rows, torch.cdist(a[rows].double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist")


def check_tables(*tables: Tensor) -> None:
    """Raise ShapeError unless all are feature tables (n, dim) of one width."""
    if any(table.ndim != 2 or table.shape[1:] != tables[0].shape[1:] for table in tables):
        shapes = ", ".join(str(tuple(table.shape)) for table in tables)
        raise ShapeError(f"expected feature tables (n, dim) of one width, got {shapes}")


def _radii(table: Tensor, pairs: int) -> Tensor:
    """Distances of every row to its third and its fifth nearest other row, (n, 2)."""
    found = []
    for rows, apart in distance_blocks(table, table, pairs):
        apart[torch.arange(len(apart)), torch.arange(rows.start, rows.stop)] = torch.inf
        found.append(apart.topk(WIDE_BALL, largest=False).values[:, [BALL - 1, WIDE_BALL - 1]])
    return torch.cat(found)
