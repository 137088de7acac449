"""Rule: the nearest code is the nearest code, at any scale, offset and dtype; ties go to the lowest index."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from dvgen.blocks import nearest as module
from dvgen.blocks.nearest import nearest
from dvgen.contracts.search import SearchCase, stress_cases, wrong_codes


def squared_distances(z: Tensor, codebook: Tensor) -> Tensor:
    """(n, k), float64, by plain differences."""
    return (z.double().unsqueeze(1) - codebook.double().unsqueeze(0)).square().sum(dim=2)


def assert_nearest(z: Tensor, codebook: Tensor) -> None:
    distances = squared_distances(z, codebook)
    found = distances.gather(1, nearest(z, codebook).codes.unsqueeze(1)).squeeze(1)
    assert (found <= distances.amin(dim=1) * (1 + 1e-14)).all()


@settings(max_examples=25, deadline=None)
@example(scale=1e6, offset=0.0, far=1e4, num_codes=9, dim=7, dtype=torch.bfloat16, seed=26)  # centred in half precision once
@given(
    scale=st.sampled_from([1e-12, 1e-5, 1.0, 1e6]),
    offset=st.sampled_from([0.0, 1.0, 300.0, 1e4]),
    far=st.sampled_from([1.0, 1e4]),
    num_codes=st.integers(1, 17),
    dim=st.integers(1, 9),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 2**31),
)
def test_equals_brute_force_in_float64(scale, offset, far, num_codes, dim, dtype, seed) -> None:
    if dtype == torch.float16:
        scale, offset, far = min(scale, 1.0), min(offset, 300.0), 1.0
    generator = torch.Generator().manual_seed(seed)
    codebook = torch.randn(num_codes, dim, generator=generator) * scale + offset
    z = torch.randn(50, dim, generator=generator) * scale * far + offset
    assert_nearest(z.to(dtype), codebook.to(dtype))


@pytest.mark.parametrize("offset", [0.0, 300.0, 1e4])
def test_equals_brute_force_on_many_close_codes(offset: float) -> None:
    """Codes a thousandth apart, where z.e - |e|^2/2 in float32 is mostly wrong."""
    generator = torch.Generator().manual_seed(1)
    centre = torch.randn(16, generator=generator)
    codebook = 10 * centre / centre.norm() + 1e-3 * torch.randn(300, 16, generator=generator) + offset
    z = codebook[torch.randint(300, (700,), generator=generator)] + 1e-4 * torch.randn(700, 16, generator=generator)
    assert_nearest(z, codebook)
    assert torch.equal(nearest(codebook.unique(dim=0), codebook.unique(dim=0)).codes, torch.arange(len(codebook.unique(dim=0))))


def test_one_outlier_does_not_spoil_the_rest() -> None:
    """A code at 1e4 takes the resolution of the scale away from all others; the bound must notice."""
    generator = torch.Generator().manual_seed(2)
    codebook = torch.randn(64, 8, generator=generator)
    codebook[5] = 1e4
    assert_nearest(torch.randn(2000, 8, generator=generator), codebook)


def test_ties_go_to_the_lowest_index() -> None:
    codebook = torch.tensor([[3.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    z = torch.tensor([[0.0, 0.0], [0.0, 7.0], [1.0, 0.0], [-1.0, 0.0], [2.0, 0.0], [-9.0, 1.0]])
    assert nearest(z, codebook).codes.tolist() == [1, 1, 1, 2, 0, 2]
    assert nearest(z, torch.ones(4, 2)).codes.tolist() == [0] * 6


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_stays_right_when_float32_products_are_allowed_to_be_coarse(precision: str) -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        generator = torch.Generator().manual_seed(3)
        assert_nearest(torch.randn(500, 32, generator=generator), torch.randn(128, 32, generator=generator))
    finally:
        torch.set_float32_matmul_precision(before)


def test_stays_right_when_a_backend_has_a_precision_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch then refuses to tell the one precision of all: the coarsest is assumed."""

    def refuse() -> str:
        raise RuntimeError("mixed settings")

    monkeypatch.setattr(torch, "get_float32_matmul_precision", refuse)
    generator = torch.Generator().manual_seed(8)
    assert_nearest(torch.randn(300, 16, generator=generator), torch.randn(64, 16, generator=generator))


def test_autocast_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(4)
    z, codebook = torch.randn(500, 32, generator=generator), torch.randn(128, 32, generator=generator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_nearest(z, codebook)


def test_chunks_are_invisible(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(5)
    z, codebook = torch.randn(101, 4, generator=generator), torch.randn(7, 4, generator=generator)
    whole = nearest(z, codebook).codes
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 70)
    assert torch.equal(nearest(z, codebook).codes, whole)


def test_few_features_need_the_slow_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is not so wide that everything is searched twice."""
    searched = []
    brute_force = module._brute_force
    monkeypatch.setattr(module, "_brute_force", lambda z, e: searched.append(len(z)) or brute_force(z, e))
    generator = torch.Generator().manual_seed(6)
    nearest(torch.randn(4000, 64, generator=generator) + 300, torch.randn(512, 64, generator=generator) + 300)
    assert sum(searched) <= 40


def test_no_features_no_codes() -> None:
    assert nearest(torch.empty(0, 3), torch.randn(4, 3)).codes.shape == (0,)
    assert nearest(torch.empty(0, 3), torch.randn(1, 3)).codes.dtype == torch.int64


def test_carries_no_gradient() -> None:
    z, codebook = torch.randn(5, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    assert not nearest(z, codebook).codes.requires_grad


@pytest.mark.parametrize("name", stress_cases())
def test_no_code_is_wrong_in_the_stress_cases(name: str) -> None:
    case = stress_cases()[name]
    assert wrong_codes(nearest(case.z, case.codebook).codes, case) == 0


@pytest.mark.parametrize("name", stress_cases())
def test_what_compiled_code_certifies_is_right(name: str) -> None:
    """And outside of ties no code at all is wrong."""
    case = stress_cases()[name]
    codes, proved = module._candidate_search(case.z, case.codebook)
    assert wrong_codes(codes[proved], SearchCase(case.z[proved], case.codebook)) == 0
    if name != "ties on a lattice":
        assert wrong_codes(codes, case) == 0


def test_wrong_codes_are_counted() -> None:
    """The judge itself: the obvious score in float32 fails it far from the origin, and a shifted code is wrong."""
    case = stress_cases()["offset 1e4"]
    scores = case.z @ case.codebook.T - case.codebook.square().sum(dim=1) / 2
    assert wrong_codes(scores.argmax(dim=1), case) > 0.9 * len(case.z)
    right = nearest(case.z, case.codebook).codes
    assert wrong_codes((right + 1) % len(case.codebook), case) == len(case.z)


@pytest.mark.parametrize("num_codes", [1, 3, 64, 65, 200])
def test_compiled_code_finds_the_same(num_codes: int) -> None:
    """One operator, whatever the batch: no recompilation for another size."""
    generator = torch.Generator().manual_seed(7)
    codebook = torch.randn(num_codes, 5, generator=generator)
    compiled = torch.compile(nearest, fullgraph=True, backend="aot_eager", dynamic=True)
    for n in (50, 51, 90):
        z = torch.randn(n, 5, generator=generator)
        found = compiled(z, codebook)
        assert torch.equal(found.codes, nearest(z, codebook).codes)
        assert found.certified.float().mean() > 0.9


def test_it_is_told_which_codes_are_certified() -> None:
    z = torch.zeros(8, 2)
    z[:6] = torch.tensor([1.0, 0.0])
    assert nearest(z, torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).certified.tolist() == [True] * 6 + [False] * 2
    assert nearest(z[:0], torch.randn(3, 2)).certified.shape == (0,)
