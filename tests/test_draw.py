"""`draw` turns logits and uniform numbers into codes by inversion: every test has a closed form."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dvgen.errors import NonFiniteError
from dvgen.interfaces.sampling import Sampling, draw

LARGEST = 1.0 - 2.0**-53
"""The largest float64 below 1; torch.rand can return it."""


def drawn(probabilities: list[float], uniforms: list[float], sampling: Sampling | None = None) -> list[int]:
    """The codes drawn for each uniform number from one distribution."""
    logits = torch.tensor(probabilities, dtype=torch.float64).log().expand(len(uniforms), -1)
    return draw(logits, torch.tensor(uniforms, dtype=torch.float64), sampling or Sampling()).tolist()


def shares(probabilities: list[float], sampling: Sampling) -> list[float]:
    """The share of each code over a fine, even grid of uniform numbers."""
    uniforms = ((torch.arange(10_000) + 0.5) / 10_000).tolist()
    counts = torch.bincount(torch.tensor(drawn(probabilities, uniforms, sampling)), minlength=len(probabilities))
    return (counts / len(uniforms)).tolist()


def test_inversion_cuts_the_unit_interval_at_the_cumulative_probabilities() -> None:
    assert drawn([0.25, 0.5, 0.25], [0.0, 0.24, 0.26, 0.74, 0.76, LARGEST]) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("probabilities", [[0, 1, 0], [0, 0.5, 0, 0.5, 0], [0.5, 0.5, 0, 0], [0, 0, 1], [1, 0, 0]])
@pytest.mark.parametrize("uniform", [0.0, 5e-324, 0.5, LARGEST, 1.0])
def test_a_code_of_probability_zero_is_never_drawn(probabilities: list[float], uniform: float) -> None:
    assert probabilities[drawn(probabilities, [uniform])[0]] > 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 600), st.sampled_from([0.0, 0.3, 0.9]))
def test_no_zero_is_drawn_at_either_end_of_a_long_distribution(seed: int, num_codes: int, zeros: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(64, num_codes, generator=generator, dtype=torch.float64) * 3
    hidden = torch.rand(64, num_codes, generator=generator) < zeros
    hidden[:, 0] = False
    hidden[:, -1] = True
    logits = logits.masked_fill(hidden, -torch.inf)
    for uniform in (0.0, 0.5, LARGEST, 1.0):
        codes = draw(logits, torch.full((64,), uniform, dtype=torch.float64), Sampling())
        assert not hidden.gather(1, codes.unsqueeze(1)).any()


@pytest.mark.parametrize("uniform", [LARGEST, 1.0])
def test_the_top_of_the_interval_draws_the_last_possible_code(uniform: float) -> None:
    """1.0 is outside the interval, but a narrower type rounds up to it."""
    assert drawn([0.2, 0.2, 0.2, 0.2, 0.2, 0, 0], [uniform]) == [4]


def test_temperature_raises_probabilities_to_a_power() -> None:
    assert shares([0.2, 0.8], Sampling(temperature=0.5)) == pytest.approx([0.04 / 0.68, 0.64 / 0.68], abs=2e-4)
    assert shares([0.2, 0.8], Sampling(temperature=2.0))[0] == pytest.approx(
        math.sqrt(0.2) / (math.sqrt(0.2) + math.sqrt(0.8)), abs=2e-4
    )


def test_a_vanishing_temperature_is_greedy_and_does_not_overflow() -> None:
    assert drawn([0.3, 0.4, 0.3], [0.0, 0.5, LARGEST], Sampling(temperature=1e-308)) == [1, 1, 1]


def test_top_k_keeps_the_k_likeliest_and_their_ratio() -> None:
    assert shares([0.1, 0.4, 0.2, 0.3], Sampling(top_k=2)) == pytest.approx([0, 4 / 7, 0, 3 / 7], abs=2e-4)


@pytest.mark.parametrize(("top_k", "expected"), [(1, [1, 0, 0]), (2, [0.5, 0.5, 0]), (3, [1 / 3] * 3), (9, [1 / 3] * 3)])
def test_top_k_keeps_exactly_k_among_equals_the_lower_first(top_k: int, expected: list[float]) -> None:
    assert shares([1, 1, 1], Sampling(top_k=top_k)) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (0.01, [0, 0, 1, 0]),
        (0.5, [0, 0, 1, 0]),
        (0.51, [0, 1 / 3, 2 / 3, 0]),
        (0.75, [0, 1 / 3, 2 / 3, 0]),
        (0.8, [1 / 7, 2 / 7, 4 / 7, 0]),
        (1.0, [0.125, 0.25, 0.5, 0.125]),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(top_p: float, expected: list[float]) -> None:
    assert shares([0.125, 0.25, 0.5, 0.125], Sampling(top_p=top_p)) == pytest.approx(expected, abs=2e-4)


def test_top_p_counts_what_top_k_left() -> None:
    # after top_k = 2 the shares are 2/3 and 1/3, so that 0.6 is reached by the first alone (of all codes it has 0.5)
    assert shares([0.5, 0.25, 0.25], Sampling(top_k=2, top_p=0.6)) == [1, 0, 0]
    assert shares([0.5, 0.25, 0.25], Sampling(top_p=0.6))[1] > 0


@pytest.mark.parametrize("bad", [[math.nan, 0.0], [math.inf, 0.0], [-math.inf, -math.inf]])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(top_k=1), Sampling(top_p=0.5)])
def test_logits_that_are_no_distribution_are_refused(bad: list[float], sampling: Sampling) -> None:
    logits = torch.stack([torch.zeros(2), torch.tensor(bad)])
    with pytest.raises(NonFiniteError, match="cannot draw a code"):
        draw(logits, torch.full((2,), 0.5, dtype=torch.float64), sampling)


def test_rows_are_drawn_apart() -> None:
    logits = torch.randn(16, 9, generator=torch.Generator().manual_seed(0))
    uniforms = torch.rand(16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    alone: list[Tensor] = [draw(logits[i : i + 1], uniforms[i : i + 1], Sampling(top_k=5, top_p=0.9)) for i in range(16)]
    assert torch.equal(draw(logits, uniforms, Sampling(top_k=5, top_p=0.9)), torch.cat(alone))
