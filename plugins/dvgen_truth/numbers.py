"""Random numbers that are a function of a seed alone, the same on every machine and in every version of the libraries."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

Array = NDArray[np.float64]


class Purpose(IntEnum):
    """What numbers of one seed are for; each purpose has its own."""

    DRAWS = 0
    TABLE = 1
    ORDER = 2


def uniforms(seed: int, purpose: Purpose, rows: int, columns: int) -> Array:
    """(rows, columns) uniform in [0, 1), multiples of 2^-53; the first rows do not depend on how many there are.

    Philox-4x64-10 (Salmon et al., 2011) with the key (seed, purpose), of which the upper 53 bits are taken. Its raw bits are
    what numpy keeps; how numpy makes floats or other distributions of them, it may change.
    """
    raw = np.random.Philox(key=np.array([seed, purpose], dtype=np.uint64)).random_raw(rows * columns)
    numbers = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers.reshape(rows, columns)


def dirichlet(seed: int, rows: int, columns: int, concentration: float) -> Array:
    """Rows of a symmetric Dirichlet distribution, all positive: gamma variables by inversion, normalised."""
    # 0 is raised, half a step, so that no probability is 0
    numbers = np.maximum(uniforms(seed, Purpose.TABLE, rows, columns), 2.0**-54)
    gammas: Array = gammaincinv(concentration, numbers)
    return gammas / gammas.sum(axis=1, keepdims=True)


def orders(seed: int, rows: int, columns: int) -> NDArray[np.int64]:
    """Permutations of 0..columns - 1, one a row."""
    return np.argsort(uniforms(seed, Purpose.ORDER, rows, columns), axis=1, kind="stable")


def entropies(probabilities: Array) -> Array:
    """Entropy in nats of every row; 0 log 0 is 0."""
    logs = np.log(np.where(probabilities > 0, probabilities, 1.0))
    return np.asarray(-(probabilities * logs).sum(axis=-1))
