"""Pictures inside the page, as base64: as they are, or made smaller until they fit."""

import base64
import io
import math
from pathlib import Path

import numpy as np
from attrs import frozen
from numpy.typing import NDArray
from PIL import Image

PLACES = ("{}.png", "{}/spectrograms.png")
"""Where a picture may be: sounds have one of their spectrograms, in their folder."""
SMALLER = 0.9
"""Each attempt has at most this share of the width before."""
VIRIDIS = (
    (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141), (39, 173, 129), (92, 200, 99), (170, 220, 50),
    (253, 231, 37),
)  # fmt: skip
"""Colours from low to high, which also differ in lightness, so that everybody can tell them apart."""


@frozen
class Picture:
    """A picture for an <img>: its data, its size in pixels, and whether it had to be made smaller."""

    uri: str
    width: int
    height: int
    reduced: bool = False


def find(name: Path) -> Path | None:
    """The file of the picture `name` (without .png), if there is one."""
    places = (name.parent / place.format(name.name) for place in PLACES)
    return next((place for place in places if place.is_file()), None)


def embedded(path: Path, limit: int) -> Picture | None:
    """A PNG file in at most `limit` bytes of base64: with fewer colours first, then smaller; None for a file that is none."""
    try:
        with Image.open(path, formats=["PNG"]) as file:
            picture = file.convert("RGB")
    except (OSError, ValueError, SyntaxError):
        return None
    size = picture.size
    data = path.read_bytes()
    room = limit * 3 // 4  # base64 writes three bytes as four
    while len(data) > room and min(picture.size) > 8:
        data = _png(picture.quantize(256, method=Image.Quantize.FASTOCTREE))  # the default takes seconds, this milliseconds
        share = min(SMALLER, math.sqrt(room / len(data)))
        width, height = (max(1, round(side * share)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return Picture(_uri(data), *size, reduced=len(data) != path.stat().st_size)


def heat_map(values: NDArray[np.float64], low: float, high: float) -> Picture:
    """A pixel a value (h, w), coloured from low to high."""
    share = np.clip((values - low) / (high - low or 1.0), 0, 1) * (len(VIRIDIS) - 1)
    colours = np.stack([np.interp(share, range(len(VIRIDIS)), channel) for channel in zip(*VIRIDIS, strict=True)], axis=-1)
    height, width = values.shape
    return Picture(_uri(_png(Image.fromarray(colours.round().astype(np.uint8)))), width, height)


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return file.getvalue()


def _uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")
