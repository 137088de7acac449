"""The row under way: each window shows the columns that a convolution of its dilation would, and zeros left of the row."""

import pytest
import torch

from dvgen.blocks.row_buffer import OwnRow


@pytest.mark.parametrize("width", [1, 2, 7])
@pytest.mark.parametrize(("taps", "dilation", "strict"), [(1, 1, False), (3, 1, False), (3, 1, True), (2, 3, False)], ids=str)
def test_windows_show_the_columns_before(width: int, taps: int, dilation: int, strict: bool) -> None:
    """For two rows, one after the other: what is left of the first one may not be seen from the second."""
    row = OwnRow(torch.zeros((), dtype=torch.float64), (2, width, 3), taps, dilation=dilation, strict=strict)
    for seed in range(2):
        x = torch.randn(2, width, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for column in range(width):
            if not strict:
                row.slots[column].copy_(x[:, column])
            last = column - dilation if strict else column
            places = [last - dilation * back for back in reversed(range(taps))]
            expected = torch.stack([x[:, place] if place >= 0 else torch.zeros_like(x[:, 0]) for place in places], dim=1)
            assert torch.equal(row.windows[column].unflatten(1, (taps, 3)), expected)
            row.slots[column].copy_(x[:, column])


def test_views_share_the_memory_of_the_row() -> None:
    row = OwnRow(torch.zeros(()), (2, 4, 3), 2, dilation=2)
    memory = row.columns.untyped_storage().data_ptr()
    assert {view.untyped_storage().data_ptr() for view in (*row.slots, *row.windows)} == {memory}
