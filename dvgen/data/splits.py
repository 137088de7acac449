"""The split of a data set into train, validation and test: the same for every run, whatever its seed."""

from torch import Tensor, arange

from dvgen.data.order import permutation
from dvgen.errors import DataError
from dvgen.interfaces.data import Dataset
from dvgen.seeding import fold

SPLITS = ("train", "validation", "test")
MOST = {"validation": 5000, "test": 10000}
SEED = 20170211  # of the split, never of a run: changing it makes every number measured so far incomparable


def split(dataset: Dataset) -> dict[str, Tensor]:
    """Indices (n,) int64, ascending, of every split; together they are the whole set, and no two share an index.

    Official parts are kept. A missing validation or test split is carved from train at random: a tenth of it, at least 1,
    at most 5000 or 10000. Raises DataError when that leaves a split empty, or when the parts are not a division.
    """
    parts = dict(dataset.parts)
    _check(parts, len(dataset))
    start, stop = parts["train"]
    found = {name: arange(*limits) for name, limits in parts.items()}
    shuffled = start + permutation(stop - start, fold(SEED, "split"))
    for name in ("test", "validation"):
        if name not in parts:
            count = min(MOST[name], max(1, (stop - start) // 10))
            found[name], shuffled = shuffled[:count].sort().values, shuffled[count:]
    found["train"] = shuffled.sort().values
    for name in SPLITS:
        if not len(found[name]):
            raise DataError(
                f"the {name} split is empty: the data set has {len(dataset)} signals, in parts {parts}; add signals"
            )
    return {name: found[name] for name in SPLITS}


def _check(parts: dict[str, tuple[int, int]], n: int) -> None:
    edges = sorted(parts.values())
    whole = [0, *(stop for _, stop in edges)] == [*(start for start, _ in edges), n]
    if "train" not in parts or not set(parts) <= set(SPLITS) or not whole:
        raise DataError(
            f"parts {parts} do not divide {n} signals into train and, if any, validation and test; mend the data set"
        )
