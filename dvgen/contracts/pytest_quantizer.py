"""The contract of a quantizer as tests: one decorator, and hypothesis draws the examples. Needs pytest and hypothesis."""

from collections.abc import Callable

import torch
from hypothesis import strategies as st

from dvgen.contracts.pytest_laws import TestClass, as_tests
from dvgen.contracts.quantizer import laws_of
from dvgen.contracts.quantizer_subject import JUNK, Example, Subject
from dvgen.interfaces.quantizer import Quantizer

EXAMPLES = st.builds(
    Example,
    batch=st.integers(0, 4),
    grid=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    scale=st.sampled_from([1.0, 1e-12, 1e-5, 1e6]),
    offset=st.sampled_from([0.0, 1.0, 300.0, 1e4]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    train=st.booleans(),
    mask=st.sampled_from(["none", "some", "all"]),
    junk=st.integers(0, len(JUNK) - 1),
    updates=st.integers(0, 2),
    seed=st.integers(0, 2**16),
)
"""Situations of every rank, scale, offset, dtype, mask and mode."""

LAYOUTS = (Example(), Example(seed=1))
"""Features whose channels lie last in memory, and contiguous ones."""


def quantizer_contract(make: Callable[[], Quantizer], *, examples: int = 10) -> Callable[[TestClass], TestClass]:
    """Class decorator: gives the class one test a law that applies to the quantizer that `make` makes, of a tiny config.

        @quantizer_contract(lambda: MyQuantizer(MyQuantizer.tiny()))
        class TestMyQuantizer: ...

    examples: how many situations hypothesis draws for each law. Laws that compile or start processes carry the mark `slow`.
    """

    subject = Subject(make)
    return as_tests(subject, laws_of(subject), plain=Example(), drawn=EXAMPLES, examples=examples, always=LAYOUTS)
