"""k-means as the start of a codebook: every code used, never worse than the sample it starts from, at any scale."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dvgen.blocks.codebook import sampled_codebook
from dvgen.blocks.kmeans import kmeans_codebook
from dvgen.errors import NonFiniteError, ShapeError


def brute_force(z: Tensor, codebook: Tensor) -> tuple[Tensor, float]:
    """The codes (lowest of equals) and the mean squared distance, in float64."""
    distances = (z.double().unsqueeze(1) - codebook.double()).square().sum(dim=2)
    return distances.argmin(dim=1), float(distances.amin(dim=1).mean())


@given(
    n=st.integers(1, 60),
    k=st.integers(1, 24),
    d=st.integers(1, 5),
    scale=st.sampled_from([1e-25, 1e-12, 1e-5, 1.0, 1e6, 1e20]),
    offset=st.sampled_from([0.0, 0.0, 300.0, 1e4]),
    grid=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_every_code_is_used_and_the_error_is_not_above_that_of_the_sample(
    n: int, k: int, d: int, scale: float, offset: float, grid: bool, seed: int
) -> None:
    """P24: finite, pairwise different, each the nearest of a feature; with fewer features than codes, each feature has its own
    and the others are copies beside them.

    Features on a coarse grid repeat and lie equally far from several codes.
    """
    torch.manual_seed(seed)
    drawn = torch.randn(n, d)
    z = (drawn.round() if grid else drawn) * scale + offset
    distinct = len(z.unique(dim=0))
    torch.manual_seed(seed)
    start = sampled_codebook(z, k)
    torch.manual_seed(seed)
    codebook = kmeans_codebook(z, k)
    assert codebook.shape == (k, d)
    assert codebook.isfinite().all()
    assert grid or (codebook != 0).any(dim=1).all()  # on a grid a mean may be zero
    codes, error = brute_force(z, codebook)
    assert len(codes.unique()) == min(k, distinct)
    assert error <= brute_force(z, start)[1]
    assert len(codebook.unique(dim=0)) == k
    assert distinct > k or torch.equal(codebook, start)


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e6])
def test_separate_clumps_have_their_means_as_codes(scale: float, offset: float) -> None:
    """The optimum is known; repeated features weigh as often as they occur."""
    centres = 100 * scale * torch.eye(4)
    z = (
        centres.repeat_interleave(30, dim=0) + scale * torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
    ) + offset
    z = torch.cat([z, z[:1].repeat(7, 1)])
    if len(z.unique(dim=0)) < 8:  # the offset has swallowed the scale
        return
    best = torch.inf
    for seed in range(20):
        torch.manual_seed(seed)
        codebook = kmeans_codebook(z, 4)
        codes, error = brute_force(z, codebook)
        if error < best:
            best, found, own = error, codebook, codes
    sizes = sorted(torch.bincount(own).tolist())
    assert sizes == [30, 30, 30, 37]
    for code in range(4):
        expected = z[own == code].double().mean(dim=0)
        torch.testing.assert_close(found[code].double(), expected, rtol=2e-7, atol=0)


def test_more_steps_never_raise_the_error_and_most_is_gained_by_ten() -> None:
    z = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0))
    errors = []
    for iterations in (0, 1, 2, 4, 10, 100):
        torch.manual_seed(0)
        errors.append(brute_force(z, kmeans_codebook(z, 100, iterations))[1])
    assert errors == sorted(errors, reverse=True)
    assert errors[4] - errors[5] < 0.05 * (errors[0] - errors[5])


def test_codes_crowded_together_spread_over_all_features() -> None:
    """Almost as many codes as features: most steps leave some code without any, and it is placed anew."""
    z = torch.cat([1e-3 * torch.randn(90, 3), 10 + torch.randn(30, 3)])
    for seed in range(10):
        torch.manual_seed(seed)
        codebook = kmeans_codebook(z, 110)
        torch.manual_seed(seed)
        start = brute_force(z, sampled_codebook(z, 110))[1]
        codes, error = brute_force(z, codebook)
        assert len(codes.unique()) == 110
        assert error < start


def test_it_repeats_itself_from_torchs_random_state_and_leaves_the_features_alone() -> None:
    z = torch.randn(300, 3)
    before, found = z.clone(), []
    for _ in range(2):
        torch.manual_seed(5)
        found.append(kmeans_codebook(z, 20))
    assert torch.equal(*found)
    assert torch.equal(z, before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_codes_are_at_least_float32(dtype: torch.dtype) -> None:
    codebook = kmeans_codebook(torch.randn(50, 3).to(dtype), 7)
    assert codebook.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_what_cannot_be_clustered_raises() -> None:
    for wrong in (torch.zeros(0, 3), torch.zeros(3), torch.zeros(2, 3, 4)):
        with pytest.raises(ShapeError, match="initialise"):
            kmeans_codebook(wrong, 2)
    for bad in (torch.nan, torch.inf):
        with pytest.raises(NonFiniteError, match="1 of 6"):
            kmeans_codebook(torch.tensor([[0.0, 1.0, bad], [1.0, 2.0, 3.0]]), 2)
