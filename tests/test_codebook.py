"""Use of a codebook is a matter of the whole split, not of its batches."""

import pytest
import torch
from torch import Tensor

from dvgen.errors import DataError, ShapeError
from dvgen.evaluation.codebook import CodebookUse
from dvgen.interfaces.codes import Level


def use_of(codes: Tensor, num_codes: int) -> CodebookUse:
    return CodebookUse.of(Level("top", (2,), num_codes), codes)


def test_codes_alike_use_the_whole_codebook() -> None:
    use = use_of(torch.arange(8).reshape(2, 2, 2), 8)
    assert (use.usage, use.n) == (1.0, 8)
    assert use.perplexity == pytest.approx(8)


def test_one_code_has_perplexity_one() -> None:
    use = use_of(torch.full((3, 4), 5), 8)
    assert use.usage == 1 / 8
    assert use.perplexity == pytest.approx(1)


def test_perplexity_is_two_to_the_entropy_in_bits() -> None:
    use = use_of(torch.tensor([[0, 0, 1, 2]]), 4)
    assert use.usage == 3 / 4
    assert use.perplexity == pytest.approx(2**1.5)


def test_the_whole_split_counts_and_not_its_batches() -> None:
    codes = torch.arange(64).reshape(16, 4)
    assert use_of(codes, 64).perplexity == pytest.approx(64)
    assert max(use_of(batch, 64).perplexity for batch in codes.split(4)) < 17


def test_masked_codes_are_not_counted_and_others_are_checked() -> None:
    use = use_of(torch.tensor([[-1, 0, -1, 1]]), 3)
    assert (use.n, use.usage) == (2, 2 / 3)
    for bad in (3, -2):
        with pytest.raises(ShapeError, match=r"0\.\.2"):
            use_of(torch.tensor([[0, bad]]), 3)
    with pytest.raises(DataError, match="'top'"):
        use_of(torch.tensor([[-1]]), 3)


def test_a_codebook_too_large_to_list_is_counted_by_what_occurs() -> None:
    use = use_of(torch.tensor([0, 2**62 - 1, 2**62 - 1, 5]), 2**62)
    assert use.usage == 3 / 2**62
    assert use.perplexity == pytest.approx(2**1.5)


def test_usage_and_perplexity_become_measurements() -> None:
    usage, perplexity = use_of(torch.tensor([[0, 0, 1, 1]]), 4).measurements("3f9a", "test")
    assert (usage.value, perplexity.value) == pytest.approx((0.5, 2.0))
    assert usage.key != perplexity.key
    assert dict(usage.key.protocol)["codes"] == "3f9a"
