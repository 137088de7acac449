"""Grids of images as PNG."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from dvgen.errors import ConfigError
from dvgen.evaluation.reconstruction import to_uint8

GAP, WIDER_GAP = 2, 10
"""White pixels between images, and between rows that do not belong together."""
SMALLEST = 56
"""Images smaller than this many pixels are enlarged by a whole factor, so that a person can see them."""


def image_grid(signals: Tensor, columns: int | None = None, *, together: int = 1) -> Image.Image:
    """Images (n, c, h, w) in [-1, 1], row by row; c is 1 or 3. Without `columns`, about as wide as high.

    together: rows that belong together, as `stacked` makes them; behind each such group but the last the gap is wider.
    """
    n = signals.shape[0]
    columns = columns or square_columns(n, signals.shape[-2], signals.shape[-1])
    rows = math.ceil(n / columns)
    factor = max(1, round(SMALLEST / min(signals.shape[-2:])))
    pixels = to_uint8(signals).repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)
    pixels = pixels.expand(-1, 3, -1, -1)
    blank = torch.full((rows * columns - n, *pixels.shape[1:]), 255, dtype=torch.uint8)
    framed = torch.nn.functional.pad(torch.cat([pixels, blank]), (0, GAP, 0, GAP), value=255)
    groups = rearrange(framed, "(group row column) c h w -> group (row h) (column w) c", row=together, column=columns)
    wider = 0 if together == 1 else WIDER_GAP - GAP
    sheet = rearrange(torch.nn.functional.pad(groups, (0, 0, 0, 0, 0, wider), value=255), "group h w c -> (group h) w c")
    sheet = sheet[: len(sheet) - wider]
    return Image.fromarray(torch.nn.functional.pad(sheet, (0, 0, GAP, 0, GAP, 0), value=255).numpy())


def square_columns(n: int, height: int, width: int) -> int:
    """How many columns make a grid of n images about as wide as it is high, its rows as full as can be."""
    columns = min(n, math.ceil(math.sqrt(n * height / width)))
    return math.ceil(n / math.ceil(n / columns))


def save_grid(path: Path, signals: Tensor, columns: int | None = None, *, together: int = 1) -> None:
    """Write `image_grid` as PNG in one act, making the folder when it is not there; raises as `check_picture` does."""
    check_picture(path)
    with replacing(path) as aside:
        image_grid(signals, columns, together=together).save(aside, format="PNG")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, put in its place when all went well; its folder is made when it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def check_picture(path: Path) -> None:
    """Raise ConfigError when `save_grid` cannot write `path`: it has no file name, is a folder, or is no .png."""
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; expected a .png file, such as {path / 'samples.png'}")
    if path.suffix.lower() != ".png":
        raise ConfigError(f"{path}: pictures are written as PNG; expected a .png file, such as {path.parent / 'samples.png'}")


def stacked(kinds: Sequence[Tensor], columns: int) -> Tensor:
    """Rows of the first kind of images (n, c, h, w), each above the rows of the other kinds, for a grid of `columns`.

    The last rows are filled up with white images, so that the result is (kinds * columns * rows, c, h, w).
    """
    short = -len(kinds[0]) % columns
    filled = [torch.cat([signals, signals.new_ones(short, *signals.shape[1:])]) for signals in kinds]
    return rearrange(filled, "kind (row column) c h w -> (row kind column) c h w", column=columns)
