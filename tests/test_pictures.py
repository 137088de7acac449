"""Grids of images: every pixel where it belongs, at its own value."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toy_components import NoiseDataset

from dvgen.errors import ConfigError, NonFiniteError, ShapeError
from dvgen.evaluation import pixels as pixels_module
from dvgen.evaluation.completion import Completions, kept, kept_part, parse_region, spread
from dvgen.evaluation.exhibits import place_for_samples, save_completions, save_neighbours, save_reconstructions, save_samples
from dvgen.evaluation.pictures import GAP, SMALLEST, WIDER_GAP, image_grid, save_grid, stacked
from dvgen.evaluation.pixels import write_pixels
from dvgen.evaluation.reconstruction import from_uint8
from dvgen.interfaces.codes import Level


def signals(n: int, channels: int = 3, size: int = 64) -> torch.Tensor:
    """Images of one level each: image i is -1 + i / 10."""
    return (torch.arange(n) / 10 - 1).reshape(n, 1, 1, 1).expand(n, channels, size, size)


def level(i: int) -> int:
    """The 8-bit value of image i."""
    return round((i / 10) * 127.5)


@pytest.mark.parametrize(("n", "columns", "rows"), [(1, 1, 1), (4, 2, 2), (5, 3, 2), (6, 6, 1), (7, 3, 3)])
def test_images_stand_row_by_row_and_what_is_left_is_white(n: int, columns: int, rows: int) -> None:
    pixels = np.asarray(image_grid(signals(n), columns))
    cell = 64 + GAP
    assert pixels.shape == (rows * cell + GAP, columns * cell + GAP, 3)
    for i in range(rows * columns):
        top, left = GAP + (i // columns) * cell, GAP + (i % columns) * cell
        expected = level(i) if i < n else 255
        found = pixels[top : top + 64, left : left + 64]
        assert abs(found.astype(int) - expected).max() <= 1
        assert (pixels[top : top + 64, left + 64 : left + 64 + GAP] == 255).all()
        assert (pixels[top - GAP : top, left : left + 64] == 255).all()


def test_without_a_number_of_columns_a_grid_is_square_or_a_row_less() -> None:
    cell = 64 + GAP
    sizes = {n: image_grid(signals(n)).size for n in (1, 4, 5, 9, 10)}
    assert sizes == {
        n: (c * cell + GAP, r * cell + GAP) for n, c, r in ((1, 1, 1), (4, 2, 2), (5, 3, 2), (9, 3, 3), (10, 4, 3))
    }


@pytest.mark.parametrize(
    ("n", "height", "width", "columns"), [(64, 64, 96, 7), (16, 32, 64, 3), (8, 64, 32, 4), (3, 128, 16, 3), (1, 64, 256, 1)]
)
def test_a_grid_of_wide_or_tall_images_is_about_square_and_its_last_row_as_full_as_can_be(
    n: int, height: int, width: int, columns: int
) -> None:
    """Columns by hand: the root of n h / w, rounded up, and then no more than its number of rows asks for."""
    wide, high = image_grid(torch.zeros(n, 1, height, width)).size
    factor = max(1, round(SMALLEST / min(height, width)))
    cells = (wide - GAP) / (width * factor + GAP), (high - GAP) / (height * factor + GAP)
    assert cells == (columns, -(-n // columns))


def test_small_images_are_enlarged_by_a_whole_factor_without_new_colours() -> None:
    size = 8
    picture = torch.linspace(-1, 1, size * size * 3).reshape(1, 3, size, size)
    pixels = np.asarray(image_grid(picture))[GAP:-GAP, GAP:-GAP]
    factor = SMALLEST // size
    assert pixels.shape == (size * factor, size * factor, 3)
    small = pixels[::factor, ::factor]
    assert (np.kron(small, np.ones((factor, factor, 1), dtype=np.uint8)) == pixels).all()
    expected = ((picture[0].permute(1, 2, 0) + 1) * 127.5).numpy()
    assert abs(small - expected).max() <= 1


def test_large_images_keep_their_size_and_grey_ones_become_rgb() -> None:
    picture = image_grid(signals(1, channels=1, size=200))
    assert picture.size == (200 + 2 * GAP, 200 + 2 * GAP)
    assert picture.mode == "RGB"


def test_values_out_of_range_are_clamped() -> None:
    pixels = np.asarray(image_grid(torch.tensor([-9.0, 9.0]).reshape(2, 1, 1, 1).expand(2, 3, 64, 64), 2))
    assert (pixels[10, 10] == 0).all()
    assert (pixels[10, 10 + 64 + GAP] == 255).all()


def test_a_grid_is_saved_whole_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "grid.PNG"
    save_grid(path, signals(4))
    save_grid(path, signals(5), 3)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert (np.asarray(image) == np.asarray(image_grid(signals(5), 3))).all()
    assert [p.name for p in path.parent.iterdir()] == ["grid.PNG"]


@pytest.mark.parametrize("name", ["replace", "save"])
def test_a_grid_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """And the picture that was there stays; two processes do not write one temporary file."""
    path = tmp_path / "grid.png"
    asides: list[str] = []
    save_grid(path, signals(4))
    whole = path.read_bytes()

    def full(*arguments: object, **options: object) -> None:
        asides.extend(other.name for other in tmp_path.iterdir() if other != path)
        raise OSError(28, "No space left on device")

    def save(image: Image.Image, place: Path, **options: object) -> None:
        place.write_bytes(b"half")
        full()

    monkeypatch.setattr(*((Path, "replace", full) if name == "replace" else (Image.Image, "save", save)))
    with pytest.raises(OSError, match="No space"):
        save_grid(path, signals(5))
    assert len(asides) == 1
    assert str(os.getpid()) in asides[0]
    assert [other.name for other in tmp_path.iterdir()] == ["grid.png"]
    assert path.read_bytes() == whole


@pytest.mark.parametrize("name", ["", ".", "folder.png", "samples", "samples.jpg", ".png", "new/samples.gif"])
def test_a_picture_that_is_no_png_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ConfigError, match=r"expected a \.png file"):
        save_grid(tmp_path / name, signals(4))
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_a_path_without_a_file_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (Path(), Path("/"), Path("..")):
        with pytest.raises(ConfigError, match=r"expected a \.png file"):
            save_grid(path, signals(1))


@pytest.mark.parametrize("n", [1, 3, 4, 6, 7])
def test_originals_stand_above_their_reconstructions(n: int) -> None:
    columns, originals = 3, torch.arange(float(n)).reshape(n, 1, 1, 1)
    ordered = stacked([originals, -originals], columns).flatten().tolist()
    expected: list[float] = []
    for first in range(0, n, columns):
        part = [float(i) for i in range(first, first + columns)]
        expected += [i if i < n else 1.0 for i in part] + [-i if i < n else 1.0 for i in part]
    assert ordered == expected


@pytest.mark.parametrize(("n", "rows"), [(10, 2), (16, 2), (20, 4)])
def test_in_the_grid_every_reconstruction_is_right_below_its_original(n: int, rows: int) -> None:
    originals = signals(n, size=64) / 2
    pixels = np.asarray(image_grid(stacked([originals, -originals], 16), 16)).astype(int)
    cell = 64 + GAP
    assert pixels.shape == (rows * cell + GAP, 16 * cell + GAP, 3)
    centres = pixels[GAP + 32 :: cell, GAP + 32 :: cell, 0]
    for i in range(rows // 2 * 16):
        above, below = centres[i // 16 * 2, i % 16], centres[i // 16 * 2 + 1, i % 16]
        levels = (255, 255) if i >= n else [round((sign * float(originals[i, 0, 0, 0]) + 1) * 127.5) for sign in (1, -1)]
        assert abs(np.array([above, below]) - levels).max() <= 1, i


@pytest.mark.parametrize("channels", [1, 3])
def test_numbers_for_outside_evaluators_are_those_of_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    """arr_0, uint8, images first and channels last, three of them: what evaluations/evaluator.py of guided diffusion reads."""
    monkeypatch.setattr(pixels_module, "CHUNK", 3)
    expected = torch.randint(0, 256, (7, channels, 5, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    path = place_for_samples(tmp_path / "new" / "samples.npz", tmp_path, 7, NoiseDataset())
    save_samples(path, from_uint8(expected), NoiseDataset())
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays.files == ["arr_0"]
        found = arrays["arr_0"]
    assert (found.shape, found.dtype) == ((7, 5, 6, 3), np.uint8)
    for channel in range(3):
        assert (found[..., channel] == expected[:, min(channel, channels - 1)].numpy()).all()
    assert [other.name for other in path.parent.iterdir()] == ["samples.npz"]


def test_numbers_that_cannot_be_written_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "samples.npz"
    write_pixels(path, signals(3))
    before = path.read_bytes()
    with pytest.raises(NonFiniteError):
        write_pixels(path, signals(3) / 0 * 0)
    with pytest.raises(ShapeError, match="1 or 3 channels"):
        write_pixels(path, torch.zeros(3, 2, 8, 8))
    assert (path.read_bytes(), len(list(tmp_path.iterdir()))) == (before, 1)
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(ConfigError, match=r"is a folder; expected an \.npz file"):
        place_for_samples(tmp_path / "folder.npz", tmp_path, 3, NoiseDataset())


@pytest.mark.parametrize("n", [5, 16, 40])
def test_neighbours_are_the_first_samples_each_above_its_own(tmp_path: Path, n: int) -> None:
    """The first 16 in their order, whatever they look like: nobody chooses."""
    samples = (torch.arange(n) / n / 2).reshape(n, 1, 1, 1).expand(n, 1, 64, 64)
    save_neighbours(tmp_path / "samples" / "neighbours", samples, -samples, NoiseDataset())
    with Image.open(tmp_path / "samples" / "neighbours.png") as picture:
        pixels = np.asarray(picture).astype(int)
    cell = 64 + GAP
    assert pixels.shape == (2 * cell + GAP, 16 * cell + GAP, 3)
    centres = pixels[GAP + 32 :: cell, GAP + 32 :: cell, 0]
    for i in range(16):
        expected = [round((sign * i / n / 2 + 1) * 127.5) if i < n else 255 for sign in (1, -1)]
        assert abs(centres[:, i] - expected).max() <= 1, i


@pytest.mark.parametrize(("size", "grid"), [((64, 64), (4, 4)), ((60, 90), (2, 3))])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_a_completion_stands_below_what_was_kept_below_the_reconstruction(
    tmp_path: Path, n: int, size: tuple[int, int], grid: tuple[int, int]
) -> None:
    """Three panels below each other, in the order of the signals: kept pixels are the reconstruction's, the rest is grey."""
    draw = torch.Generator().manual_seed(0)
    first, last = (from_uint8(torch.randint(0, 100, (n, 3, *size), dtype=torch.uint8, generator=draw)) for _ in range(2))
    masks = kept([Level("codes", grid, 4)], parse_region("outside:0.5"))
    save_completions(tmp_path / "c.png", Completions(first, kept_part(first, masks), last), NoiseDataset())
    with Image.open(tmp_path / "c.png") as picture:
        pixels = np.asarray(picture)
    high, wide = size[0] + GAP, size[1] + GAP
    columns = (pixels.shape[1] - GAP) // wide
    groups = -(-n // columns)
    assert pixels.shape[0] == GAP + groups * 3 * high + (groups - 1) * (WIDER_GAP - GAP)
    inside = spread(masks[0], size).numpy()
    for i in range(n):
        top, left = GAP + i // columns * (3 * high + WIDER_GAP - GAP), GAP + i % columns * wide
        panels = [pixels[top + k * high :][: size[0], left : left + size[1]] for k in range(3)]
        for panel, signal in ((panels[0], first[i]), (panels[2], last[i])):
            assert (panel == ((signal.permute(1, 2, 0) + 1) * 127.5).round().numpy()).all()
        assert (panels[1][inside] == panels[0][inside]).all()
        assert (panels[1][~inside] == 128).all()


def test_between_groups_of_rows_the_gap_is_wider_and_not_behind_the_last() -> None:
    pixels = np.asarray(image_grid(torch.zeros(6, 1, 64, 64), 1, together=2))
    white = (pixels == 255).all(axis=(1, 2))
    runs = [len(run) for run in "".join("w" if row else " " for row in white).split(" ") if run]
    assert runs == [GAP, GAP, WIDER_GAP, GAP, WIDER_GAP, GAP, GAP]


def test_numbers_of_completions_are_the_completions_alone(tmp_path: Path) -> None:
    save_completions(tmp_path / "c.npz", Completions(signals(2) * 0, signals(2) * 0, signals(2)), NoiseDataset())
    with np.load(tmp_path / "c.npz", allow_pickle=False) as arrays:
        assert arrays["arr_0"].shape == (2, 64, 64, 3)
        assert [abs(int(arrays["arr_0"][i].max()) - level(i)) <= 1 for i in range(2)] == [True, True]


def test_reconstructions_are_pairs_of_rows(tmp_path: Path) -> None:
    save_reconstructions(tmp_path / "r", signals(17), signals(17), NoiseDataset())
    with Image.open(tmp_path / "r.png") as picture:
        assert picture.size == (16 * (64 + GAP) + GAP, 4 * (64 + GAP) + WIDER_GAP)
