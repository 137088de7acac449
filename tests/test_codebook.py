"""Use of a codebook is a matter of the whole split, not of its batches."""

import pytest
import torch

from dvgen.errors import DataError, ShapeError
from dvgen.evaluation.codebook import CodebookUse, counts


def test_codes_alike_use_the_whole_codebook() -> None:
    use = CodebookUse.of("top", counts(torch.arange(8).reshape(2, 2, 2), 8))
    assert (use.usage, use.n) == (1.0, 8)
    assert use.perplexity == pytest.approx(8)


def test_one_code_has_perplexity_one() -> None:
    use = CodebookUse.of("top", counts(torch.full((3, 4), 5), 8))
    assert use.usage == 1 / 8
    assert use.perplexity == pytest.approx(1)


def test_perplexity_is_two_to_the_entropy_in_bits() -> None:
    use = CodebookUse.of("top", counts(torch.tensor([[0, 0, 1, 2]]), 4))
    assert use.usage == 3 / 4
    assert use.perplexity == pytest.approx(2**1.5)


def test_counts_of_batches_add_up_to_the_split_and_their_perplexities_do_not() -> None:
    codes = torch.arange(64).reshape(16, 4)
    batches = [counts(batch, 64) for batch in codes.split(4)]
    whole = CodebookUse.of("top", sum(batches[1:], batches[0]))
    assert whole.perplexity == pytest.approx(64)
    assert max(CodebookUse.of("top", batch).perplexity for batch in batches) < 17


def test_masked_codes_are_not_counted_and_others_are_checked() -> None:
    assert counts(torch.tensor([[-1, 0, -1, 1]]), 3).tolist() == [1, 1, 0]
    for bad in (3, -2):
        with pytest.raises(ShapeError, match=r"0\.\.2"):
            counts(torch.tensor([[0, bad]]), 3)
    with pytest.raises(DataError, match="'top'"):
        CodebookUse.of("top", counts(torch.tensor([[-1]]), 3))


def test_usage_and_perplexity_become_measurements() -> None:
    usage, perplexity = CodebookUse.of("top", counts(torch.tensor([[0, 0, 1, 1]]), 4)).measurements("3f9a", "test")
    assert (usage.value, perplexity.value) == pytest.approx((0.5, 2.0))
    assert usage.key != perplexity.key
    assert dict(usage.key.protocol)["codes"] == "3f9a"
