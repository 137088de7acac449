"""One seed, many independent streams."""

import itertools
import math
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from dvgen.seeding import fold

part = st.one_of(st.integers(0, 99), st.text(alphabet="ab/\\1", max_size=4))
purposes = st.lists(part, max_size=4).map(tuple)


def test_a_fold_is_the_same_on_every_machine_and_in_every_version():
    assert fold(0, "order", 3) == 2723741169552378311
    assert fold(0) == 3456079177858693020


@given(st.integers(0, 2**63), purposes)
def test_a_fold_is_a_seed_that_torch_and_numpy_take(seed, purpose):
    assert 0 <= fold(seed, *purpose) < 2**63


@given(purposes, purposes)
def test_two_purposes_have_two_seeds(first, second):
    same = tuple(map(str, first)) == tuple(map(str, second))
    assert (fold(1, *first) == fold(1, *second)) == same


def test_a_slash_does_not_join_two_purposes():
    assert len({fold(0, "a/b"), fold(0, "a", "b"), fold(0, "a\\/b"), fold(0, "a\\", "b")}) == 4


def test_seeds_of_neighbours_are_independent():
    """Bits of the folds of 0..4095 are fair and pairwise uncorrelated, to five standard errors."""
    n = 4096
    folds = [fold(seed, "initialise") for seed in range(n)]
    for bit in range(0, 63, 7):
        ones = [(value >> bit) & 1 for value in folds]
        assert abs(sum(ones) - n / 2) < 5 * math.sqrt(n) / 2
        agree = sum(a == b for a, b in itertools.pairwise(ones))
        assert abs(agree - n / 2) < 5 * math.sqrt(n) / 2


def test_seeding_needs_no_torch():
    code = "import sys, dvgen.seeding; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
