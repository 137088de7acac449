"""MNIST and sets in its format (Fashion-MNIST, KMNIST), from the four idx files; http://yann.lecun.com/exdb/mnist/."""

import gzip
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from attrs import frozen
from einops import rearrange
from torch import Tensor

from dvgen.blocks.file_tree import existing_folder
from dvgen.errors import DataError
from dvgen.interfaces.data import Dataset
from dvgen_images.pixels import digest_pixels, to_signals

PREFIXES = {"train": "train", "test": "t10k"}
EXPECTED = "{train,t10k}-images-idx3-ubyte and {train,t10k}-labels-idx1-ubyte, each as it is or with .gz"
MOST = 1_000_000  # items; a header that claims more is damaged, and must not make us ask for that much memory


@final
class MNIST(Dataset):
    """The handwritten digits, (1, 28, 28), with the official parts train and test; read once, held as bytes."""

    @frozen(kw_only=True)
    class Config:
        """Nothing to set."""

    def __init__(self, config: Any, *, location: str | None) -> None:
        root = existing_folder("mnist", location, EXPECTED)
        images, labels = [], []
        for prefix in PREFIXES.values():
            images.append(_read(_find(root, prefix, "images", 3), (28, 28)))
            labels.append(_read(_find(root, prefix, "labels", 1), ()))
            if len(images[-1]) != len(labels[-1]):
                raise DataError(
                    f"{root}: {len(images[-1])} {prefix} images but {len(labels[-1])} labels; fetch both files again"
                )
            if labels[-1].max() > 9:
                raise DataError(f"{root}: a {prefix} label is {labels[-1].max()}; expected digits from 0 to 9")
        self._pixels = rearrange(torch.from_numpy(np.concatenate(images)), "n h w -> n 1 h w")
        self.labels = torch.from_numpy(np.concatenate(labels)).long()
        self.shape = (1, 28, 28)
        self.classes = tuple("0123456789")
        self.parts = {"train": (0, len(images[0])), "test": (len(images[0]), len(self.labels))}

    def signals(self, indices: Sequence[int]) -> Tensor:
        return to_signals(self._pixels[torch.as_tensor(indices, dtype=torch.int64)])

    def digest(self) -> str:
        return digest_pixels("mnist", self._pixels, self.labels, self.classes)


def _find(root: Path, prefix: str, kind: str, axes: int) -> Path:
    """The file of one part, under any of the names in use."""
    stems = (f"{prefix}-{kind}-idx{axes}-ubyte", f"{prefix}-{kind}.idx{axes}-ubyte")
    for name in (stem + end for stem in stems for end in ("", ".gz")):
        if (root / name).is_file():
            return root / name
    raise DataError(f"mnist: no {stems[0]} or {stems[0]}.gz in {root}; expected {EXPECTED}")


def _read(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The items of an idx file: uint8 (n, *shape), n at least 1. Raises DataError for any other content."""
    axes = 1 + len(shape)
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            magic, count, *sizes = struct.unpack(f">{1 + axes}I", file.read(4 * (1 + axes)))
            if magic != 0x800 + axes or tuple(sizes) != shape or not 1 <= count <= MOST:
                raise DataError(
                    f"{path}: its header says magic {magic:#x}, {count} items of {tuple(sizes)}; "
                    f"expected magic {0x800 + axes:#x} and items of {shape}"
                )
            length = count * int(np.prod(shape))
            data = file.read(length + 1)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DataError(f"{path}: damaged or truncated ({error}); fetch it again") from None
    if len(data) != length:
        has = "more" if len(data) > length else f"{len(data)}"
        raise DataError(f"{path}: its header promises {length} bytes of items and it has {has}; fetch it again")
    return np.frombuffer(data, dtype=np.uint8).reshape(count, *shape)
