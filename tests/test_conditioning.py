"""What the context becomes: labels dropped and embedded, coarser codes upsampled, mismatches refused."""

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from dvgen.blocks.conditioning import ClassEmbedding, CoarserMap, CoarserMaps, as_plane, check_context, covers, drop_labels
from dvgen.errors import ConfigError, ShapeError
from dvgen.interfaces.codes import MASKED, Level
from dvgen.interfaces.context import UNCONDITIONAL, Context, ContextShape

SHAPE = ContextShape((Level("top", (2, 2), 5),), 3)
TOP = torch.zeros(4, 2, 2, dtype=torch.int64)
LABELS = torch.tensor([0, 1, 2, UNCONDITIONAL])


def test_a_context_of_the_right_shape_is_taken() -> None:
    check_context(Context(4, (TOP,), LABELS), SHAPE, 4)
    check_context(Context(4), ContextShape(), 4)


@pytest.mark.parametrize(
    ("context", "shape", "message"),
    [
        (Context(3, (TOP[:3],), LABELS[:3]), SHAPE, "codes of 4 samples, but a context of 3"),
        (Context(4, (), LABELS), SHAPE, "coarser codes of shapes"),
        (Context(4, (TOP[:, :1],), LABELS), SHAPE, "coarser codes of shapes"),
        (Context(4, (TOP,), None), SHAPE, "built with classes: .* got none"),
        (Context(4, (TOP,), LABELS[:3]), SHAPE, r"got labels of shape \(3,\)"),
        (Context(4, (), LABELS), ContextShape(), "built without classes"),
    ],
)
def test_any_other_context_is_refused(context: Context, shape: ContextShape, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        check_context(context, shape, 4)


def test_labels_are_dropped_at_their_rate_and_nothing_else_changes() -> None:
    labels = torch.arange(20_000) % 7
    dropped = drop_labels(Context(20_000, (), labels), 0.1, Generator().manual_seed(0)).labels
    assert dropped is not None
    hidden = dropped == UNCONDITIONAL
    assert float(hidden.double().mean()) == pytest.approx(0.1, abs=5 * (0.09 / 20_000) ** 0.5)
    assert torch.equal(dropped[~hidden], labels[~hidden])
    assert labels.min() == 0


@pytest.mark.parametrize(("probability", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_the_ends_of_label_dropout_are_exact(probability: float, share: float) -> None:
    labels = drop_labels(Context(99, (), torch.zeros(99, dtype=torch.int64)), probability, Generator()).labels
    assert labels is not None
    assert float((labels == UNCONDITIONAL).double().mean()) == share


def test_without_noise_or_labels_nothing_is_dropped() -> None:
    context = Context(4, (TOP,), LABELS)
    assert drop_labels(context, 1.0, None) is context
    assert drop_labels(Context(4), 1.0, Generator()) == Context(4)


def test_every_label_and_no_label_have_a_row_and_others_have_none() -> None:
    rows = ClassEmbedding(3, 8)(LABELS)
    assert len(rows.unique(dim=0)) == 4
    for wrong in (3, UNCONDITIONAL - 1):
        with pytest.raises(IndexError):
            ClassEmbedding(3, 8)(torch.tensor([wrong]))


@pytest.mark.parametrize(("coarse", "fine"), [((2, 2), (4, 4)), ((3, 2), (3, 6)), ((4,), (8,)), ((4, 4), (4, 4))], ids=str)
def test_upsampling_agrees_with_torch_where_grids_divide(coarse: tuple[int, ...], fine: tuple[int, ...]) -> None:
    level = Level("top", coarse, 5)
    upsampled = CoarserMap(level, fine, 8, 0)
    codes = torch.randint(0, 5, (3, *coarse), generator=Generator().manual_seed(0))
    features = upsampled.embedding(codes.reshape(3, *as_plane(coarse)) + 1)
    expected = F.interpolate(features.permute(0, 3, 1, 2), as_plane(fine), mode="nearest").permute(0, 2, 3, 1)
    assert torch.equal(upsampled(codes), expected)


@pytest.mark.parametrize(("coarse", "fine"), [((2, 3), (3, 5)), ((5,), (7,)), ((3, 3), (4, 4)), ((41,), (43,))], ids=str)
def test_upsampling_keeps_every_code_where_grids_do_not_divide(coarse: tuple[int, ...], fine: tuple[int, ...]) -> None:
    level = Level("top", coarse, 200)
    codes = torch.arange(level.length).reshape(1, *coarse)
    features: Tensor = CoarserMap(level, fine, 8, 0)(codes)
    assert len(features.reshape(-1, 8).unique(dim=0)) == level.length


def test_what_cannot_be_upsampled_is_refused() -> None:
    assert covers(Level("top", (2, 4), 5), (2, 4))
    for coarse, fine in [((3, 2), (2, 4)), ((4,), (4, 4)), ((2, 2, 2), (4, 4, 4))]:
        assert not covers(Level("top", coarse, 5), fine)
        with pytest.raises(ConfigError, match=r"'top' of grid .* cannot be upsampled"):
            CoarserMap(Level("top", coarse, 5), fine, 8, 0)
    with pytest.raises(ConfigError, match="one or two axes"):
        as_plane((2, 2, 2))


def test_residual_blocks_look_around_and_maps_add_up() -> None:
    levels = (Level("a", (4, 4), 5), Level("b", (2, 2), 5))
    maps = CoarserMaps(levels, (4, 4), 8, 1).double()
    codes = tuple(torch.randint(0, 5, (1, *level.grid), generator=Generator().manual_seed(0)) for level in levels)
    total = sum(map(code) for map, code in zip(maps.maps, codes, strict=True))
    torch.testing.assert_close(maps(codes), total)
    edited = codes[0].clone()
    edited[0, 0, 0] = MASKED
    moved = (maps((edited, codes[1])) != maps(codes)).any(dim=-1)[0]
    assert moved.tolist() == [[True, True, False, False]] * 2 + [[False] * 4] * 2
