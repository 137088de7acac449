"""Samples as numbers: what outside evaluators read, and anything else that numpy loads without pickle."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from dvgen.errors import ConfigError, ShapeError
from dvgen.evaluation.pictures import replacing
from dvgen.evaluation.reconstruction import to_uint8
from dvgen.evaluation.sounds import to_int16

SIGNALS = "arr_0"
"""The name that numpy gives the first array, and the evaluator of guided diffusion (evaluations/evaluator.py) looks for."""
CHUNK = 1024
"""Signals rounded at a time: all at once, floats of their size would be needed several times over."""


def write_pixels(path: Path, signals: Tensor, rate: int | None = None) -> None:
    """Signals in [-1, 1] as an .npz file, in one act, that numpy loads without pickle.

    Images (n, c, h, w), c 1 or 3: arr_0, uint8 (n, h, w, 3), rounded to the nearest; grey is repeated, for evaluators take
    colour. Sound (n, c, t), with its rate: arr_0, int16 (n, t, c), and `rate`. Raises ShapeError for anything else.
    """
    if rate is None:
        write_arrays(path, {SIGNALS: _by_chunks(_pixels, signals)})
    else:
        write_arrays(path, {SIGNALS: _by_chunks(_samples, signals), "rate": np.asarray(rate, dtype=np.int64)})


def write_arrays(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Replace an .npz file in one act, making the folder when it is not there."""
    with replacing(path) as aside, aside.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def check_arrays(path: Path) -> None:
    """Raise ConfigError when `write_arrays` cannot write `path`, which is a folder."""
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; expected an .npz file, such as {path / 'samples.npz'}")


def _pixels(signals: Tensor) -> Tensor:
    if signals.ndim != 4 or signals.shape[1] not in (1, 3):
        raise ShapeError(f"expected images of 1 or 3 channels (n, c, h, w), got shape {tuple(signals.shape)}")
    return rearrange(to_uint8(signals).expand(-1, 3, -1, -1), "n c h w -> n h w c")


def _samples(signals: Tensor) -> Tensor:
    if signals.ndim != 3:
        raise ShapeError(f"expected sounds (n, c, t), got shape {tuple(signals.shape)}")
    return rearrange(to_int16(signals), "n c t -> n t c")


def _by_chunks(rounded: Callable[[Tensor], Tensor], signals: Tensor) -> NDArray[np.generic]:
    whole = torch.cat([rounded(part.cpu()) for part in signals.split(CHUNK)]).numpy()
    return np.ascontiguousarray(whole)  # in the order of C, which is all that some readers take
