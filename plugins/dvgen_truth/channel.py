"""Channels: the distribution of one code given another."""

import numpy as np

from dvgen_truth.numbers import Array


def noisy(num_codes: int, noise: float) -> Array:
    """(k, k): the same code, or with probability `noise` a uniform one, which may be the same."""
    return (1 - noise) * np.eye(num_codes) + noise / num_codes
